"""The bridge to published networks, as far as it goes without the packages that they come from:
OpenAI's CLIP against torch's own layers, its tokenizer, and what is said of files that do not fit.
"""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import JSON, MERGES, SIZES, Archive, tiny_clip
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from minidalle2 import bridge
from minidalle2.bridge.checkpoint import read_checkpoint
from minidalle2.bridge.clean_text import PeerMissing, clean, ftfy_fix_text
from minidalle2.bridge.clip_files import load_clip
from minidalle2.bridge.clip_tokenizer import CLIPTokenizer, find_merges, pieces
from minidalle2.bridge.decoder import MARKS, averaged, check_unit
from minidalle2.bridge.openai_clip import OpenAICLIP
from minidalle2.bridge.peer import build
from minidalle2.bridge.prior import caption_features, without_clip
from minidalle2.bridge.state_dict import fill
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.tokenizer import PromptTooLong


@pytest.fixture
def clip() -> OpenAICLIP:
    return tiny_clip()


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(MERGES, context_length=9)


@pytest.fixture
def folder(tmp_path: Path, clip: OpenAICLIP) -> Path:
    torch.save(clip.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(JSON))
    return tmp_path


# CLIP against torch's own layers


def reference(x: Tensor, weights: dict, tower: str, layers: int, heads: int, causal: bool):
    """The blocks of a tower by nn.MultiheadAttention and F.layer_norm."""
    length = x.shape[1]
    hidden = torch.full((length, length), -torch.inf).triu(1) if causal else None
    for i in range(layers):
        w = {
            k.split(f"resblocks.{i}.")[1]: v
            for k, v in weights.items()
            if k.startswith(f"{tower}transformer.resblocks.{i}.")
        }
        attention = nn.MultiheadAttention(x.shape[2], heads, batch_first=True)
        attention.load_state_dict({k[5:]: v for k, v in w.items() if k.startswith("attn.")})
        y = F.layer_norm(x, x.shape[-1:], w["ln_1.weight"], w["ln_1.bias"])
        x = x + attention(y, y, y, attn_mask=hidden, need_weights=False)[0]
        y = F.layer_norm(x, x.shape[-1:], w["ln_2.weight"], w["ln_2.bias"])
        y = F.linear(y, w["mlp.c_fc.weight"], w["mlp.c_fc.bias"])
        x = x + F.linear(y * torch.sigmoid(1.702 * y), w["mlp.c_proj.weight"], w["mlp.c_proj.bias"])
    return x


@torch.no_grad()
def test_text_embedding_is_that_of_torchs_layers(clip, tokenizer):
    w, tokens = clip.state_dict(), tokenizer(["red cat", "a cat's red!!"])
    x = w["token_embedding.weight"][tokens] + w["positional_embedding"]
    x = reference(x, w, "", layers=3, heads=1, causal=True)
    x = F.layer_norm(x, (64,), w["ln_final.weight"], w["ln_final.bias"])
    at_end = (
        x[[0, 1], [3, 7]] @ w["text_projection"]
    )  # start red cat end; start a cat 's red ! !</w> end
    expected = at_end / at_end.norm(dim=1, keepdim=True)
    torch.testing.assert_close(clip.encode_text(tokens), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_image_embedding_is_that_of_torchs_layers(clip):
    w, images = clip.state_dict(), torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor(SIZES.mean)[:, None, None], torch.tensor(SIZES.std)[:, None, None]
    x = F.unfold(((images + 1) / 2 - mean) / std, 8, stride=8).transpose(1, 2)  # (B, N, 3·P·P)
    x = x @ w["visual.conv1.weight"].flatten(1).T
    x = torch.cat((w["visual.class_embedding"].expand(2, 1, -1), x), 1)
    x = x + w["visual.positional_embedding"]
    x = F.layer_norm(x, (128,), w["visual.ln_pre.weight"], w["visual.ln_pre.bias"])
    x = reference(x, w, "visual.", layers=2, heads=2, causal=False)[:, 0]
    x = F.layer_norm(x, (128,), w["visual.ln_post.weight"], w["visual.ln_post.bias"])
    expected = F.normalize(x @ w["visual.proj"], dim=-1)
    torch.testing.assert_close(clip.encode_image(images), expected, atol=1e-5, rtol=0)


def test_images_of_other_sizes_are_resized(clip):
    plain = torch.full((1, 3, 32, 32), 0.3)
    larger = F.interpolate(plain, 64)
    torch.testing.assert_close(clip.encode_image(larger), clip.encode_image(plain))


# Files of a CLIP


def test_open_clips_files_are_read(folder, clip, tokenizer):
    loaded = load_clip(folder)
    assert (loaded.config.mean, loaded.config.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    tokens = tokenizer(["red"])
    assert torch.equal(loaded.encode_text(tokens), clip.encode_text(tokens))


def test_a_training_checkpoint_of_open_clip_is_read(folder, clip, tokenizer):
    state = {f"module.{k}": v for k, v in clip.state_dict().items()}
    (folder / "open_clip_pytorch_model.bin").unlink()
    torch.save({"epoch": 3, "name": "x", "state_dict": state}, folder / "epoch_3.pt")
    tokens = tokenizer(["red"])
    assert torch.equal(load_clip(folder).encode_text(tokens), clip.encode_text(tokens))


def test_openais_archive_is_read_without_a_config(tmp_path, clip, tokenizer):
    torch.jit.script(Archive(clip)).save(tmp_path / "ViT-tiny.pt")
    loaded, tokens = load_clip(tmp_path), tokenizer(["a red cat"])
    assert loaded.config.quick_gelu
    torch.testing.assert_close(
        loaded.encode_text(tokens), clip.encode_text(tokens), atol=2e-3, rtol=0
    )


def test_openais_archive_with_a_config_that_forgets_quick_gelu(tmp_path, clip):
    torch.jit.script(Archive(clip)).save(tmp_path / "ViT-tiny.pt")
    content = {**JSON["model_cfg"], "quick_gelu": False}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="trained with QuickGELU"):
        load_clip(tmp_path)


def test_quick_gelu_changes_the_embedding(folder, clip, tokenizer):
    content = {"model_cfg": {**JSON["model_cfg"], "quick_gelu": False}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    tokens = tokenizer(["red"])
    assert not torch.allclose(load_clip(folder).encode_text(tokens), clip.encode_text(tokens))


def rewritten(change) -> str:
    content = json.loads(json.dumps(JSON))
    change(content["model_cfg"])
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["vision_cfg"].update(layers=12),
            "vision_cfg.layers 12, but the weights .* have 2",
        ),
        (lambda c: c.update(embed_dim=512), "embed_dim 512, but the weights .* have 20"),
        (lambda c: c["vision_cfg"].update(timm_model_name="x"), "vision_cfg.timm_model_name"),
        (lambda c: c.update(custom_text=True), "custom_text"),
    ],
)
def test_a_config_that_contradicts_the_weights(folder, change, said):
    (folder / "open_clip_config.json").write_text(rewritten(change))
    with pytest.raises(CheckpointError, match=said):
        load_clip(folder)


def test_a_state_dict_without_a_config(folder):
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match="do not tell GELU from QuickGELU"):
        load_clip(folder)


def test_hugging_faces_layout_is_named(folder):
    torch.save(
        {"text_model.embeddings.position_ids": torch.zeros(1)},
        folder / "open_clip_pytorch_model.bin",
    )
    with pytest.raises(
        CheckpointError, match="a CLIP in Hugging Face's layout; take the open_clip file"
    ):
        load_clip(folder)


def test_two_files_of_weights(folder):
    torch.save({}, folder / "other.pth")
    with pytest.raises(CheckpointError, match="exactly one .*other.pth"):
        load_clip(folder)


# Checkpoints


class Trap:
    def __reduce__(self):
        return os.mkdir, (Trap.path,)


class Version:
    """As packaging pickles it: the release is a tuple of numbers in its state."""

    def __init__(self):
        self._key = (0, (1, 10, 9), None)


def test_nothing_that_is_pickled_is_run(tmp_path):
    Trap.path = str(tmp_path / "made by the file")
    state = {"model": {"w": torch.ones(2)}, "warmup_scheduler": Trap(), "version": Version()}
    torch.save(state, tmp_path / "best.pth")
    content = read_checkpoint(tmp_path).content
    assert torch.equal(content["model"]["w"], torch.ones(2))
    assert content["warmup_scheduler"].of.endswith("mkdir")
    assert not Path(Trap.path).exists()


@pytest.mark.parametrize(
    ("saved", "said"), [(Version(), "1.10.9"), ("1.12.4", "1.12.4"), (None, None)]
)
def test_the_version_that_saved_it(tmp_path, saved, said):
    torch.save({"model": {}, "version": saved}, tmp_path / "best.pth")
    assert read_checkpoint(tmp_path).version == said


def test_a_broken_download(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "best.pth")
    whole = (tmp_path / "best.pth").read_bytes()
    for broken in (whole[:3000], whole[:1000] + b"\0" * 99 + whole[1099:], b"no checkpoint"):
        (tmp_path / "best.pth").write_bytes(broken)
        with pytest.raises(CheckpointError, match="best.pth can't be read as a checkpoint .*again"):
            read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weight": torch.ones(3, 2)}, "1 of 2 tensors differ, first 'bias'"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(3)}, "expected .3, 2., found .2, 3."),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3), "x": torch.ones(1)}, "first 'x'"),
    ],
)
def test_missing_wrong_and_left_over_tensors_are_named(tensors, said):
    with pytest.raises(CheckpointError, match=said):
        fill(nn.Linear(2, 3), tensors, "here", "do that")


def test_averaged_weights_are_preferred(tmp_path):
    state = {
        "model": {MARKS[0]: torch.zeros(1), "unets.1.w": torch.zeros(1), "x": torch.zeros(1)},
        "ema": {
            MARKS[0].replace("unets.0.", "0.ema_model."): torch.ones(1),
            MARKS[0].replace("unets.0.", "0.online_model."): torch.full((1,), 7.0),
            "0.step": torch.tensor(5),
        },
    }
    torch.save(state, tmp_path / "latest.pth")
    values = {name: tensor.item() for name, tensor in averaged(read_checkpoint(tmp_path)).items()}
    assert values == {MARKS[0]: 1, "unets.1.w": 0, "x": 0}


def test_another_clip_in_the_checkpoint(tmp_path, clip):
    torch.save({}, tmp_path / "best.pth")
    published = read_checkpoint(tmp_path)
    saved = {"clip.clip.ln_final.weight": clip.ln_final.weight.half(), "net.w": torch.ones(1)}
    assert list(without_clip(saved, clip, published)) == ["net.w"]
    saved["clip.clip.ln_final.weight"] = clip.ln_final.weight + 0.1
    with pytest.raises(CheckpointError, match="trained with another CLIP"):
        without_clip(saved, clip, published)


# Embeddings and captions


def test_embeddings_that_are_not_normalised():
    z_i = F.normalize(torch.randn(3, 768), dim=-1)
    check_unit(z_i.half().float())
    for wrong in (z_i * 10.3, z_i * torch.tensor([[1.0], [1.0], [0.9]]), z_i * torch.nan):
        with pytest.raises(ValueError, match="length .*normalise it"):
            check_unit(wrong)


def test_features_of_what_is_no_caption_are_zero(clip, tokenizer):
    tokens = tokenizer(["red !! cat"])  # start red ! !</w> cat end: "!" has the id of padding
    kept = caption_features(clip, tokens).abs().sum(-1)[0] > 0
    assert kept.tolist() == [True, True, False, True, True, True, False, False, False]
    torch.testing.assert_close(
        caption_features(clip, tokens)[0, :2], clip.text_features(tokens)[0, :2]
    )


# The tokenizer


def trusted(tokenizer: CLIPTokenizer) -> Tokenizer:
    """Hugging Face's library, set up as for CLIP."""
    vocab = {word: i for i, word in enumerate(tokenizer._words)}
    peer = Tokenizer(models.BPE(vocab, MERGES, end_of_word_suffix="</w>"))
    peer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return peer


@pytest.mark.parametrize(
    "text",
    [
        "red cat",
        "A  Red\tCAT's 12 hats...",
        "isn't we've \"quoted's\"",
        "红苹果 und größe ½ x²",
        "naïve हिन्दी 👍🏽!",
        "'",
        "a_b-c ''s reded",
    ],
)
def test_same_ids_as_a_trusted_library(tokenizer, text):
    assert tokenizer.encode(text) == trusted(tokenizer).encode(text).ids


def test_merges_and_marks_by_hand(tokenizer):
    words = [tokenizer._words[i] for i in tokenizer.encode("Red &amp; reds")]
    assert words == ["red</w>", "&</w>", "re", "d", "s</w>"]
    assert tokenizer.decode(tokenizer.encode("red  cat, größe")) == "red cat , größe"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("it’s", "it's"),
        ("the cat`s ‘hat’", "the cat`s 'hat'"),  # a grave accent is no curly quote
        ("“a dog”", '"a dog"'),
        ("cafe\u0301", "caf\u00e9"),
        ("A\u030angstro\u0308m", "\u00e5ngstr\u00f6m"),
        ("ＲＥＤ　ｃａｔ", "red cat"),
        ("ﾈｺ", "ネコ"),
        ("ﬁsh and ﬂower", "fish and flower"),
        ("\ufeffred cat", "red cat"),
        ("red\x00\x07 cat\x7f", "red cat"),
        ("\x1b[31mred\x1b[0m cat", "red cat"),
        ("salt &amp; pepper", "salt & pepper"),
        ("&amp;amp;lt;", "<"),
        ("&#39;s &eacute; &nbsp;x", "'s é x"),
        ("cafÃ©, itâ€™s", "café, it's"),
        ("one\u2028two\u2029three\r\nfour", "one two three four"),
        ("wait\u0085 it\u0092s", "wait… it's"),  # Windows characters read as Latin-1
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("\ud83d\ude00", "😀"),
        ("İSTANBUL ΣΟΦΟΣ", "i̇stanbul σοφος"),
        ("  A   Red\tCat  ", "a red cat"),
        ("x² ½ … 10³", "x² ½ … 10³"),  # NFC keeps what NFKC would replace
        ("", ""),
    ],
)
def test_text_is_cleaned_as_in_clips_training(tokenizer, text, cleaned):
    assert clean(text, ftfy_fix_text()) == cleaned
    assert tokenizer.encode(text) == trusted(tokenizer).encode(cleaned).ids


def test_without_ftfy_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(
        PeerMissing, match=r"needs the package ftfy, .*pip install ftfy.*\[bridge\]"
    ):
        CLIPTokenizer(MERGES)


def test_contractions_are_split_only_where_a_piece_begins():
    assert pieces("it's !'s") == ["it", "'s", "!'", "s"]


def test_start_end_and_padding(tokenizer):
    end = tokenizer.vocab_size - 1
    assert tokenizer(["red cat"]).tolist() == [[end - 1, 513, 515, end, 0, 0, 0, 0, 0]]
    with pytest.raises(PromptTooLong, match="10 tokens, but CLIP reads at most 9"):
        tokenizer(["red " * 8])
    assert tokenizer.cut(["red " * 8]).tolist() == [[end - 1, *[513] * 7, end]]


def test_merges_are_found_beside_the_weights_and_must_be_enough(tmp_path):
    lines = ["#version", *(" ".join(pair) for pair in MERGES), "x y", ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    path = find_merges(tmp_path)
    assert CLIPTokenizer.load(path, SIZES.vocab_size, 9).encode("red") == [513]
    with pytest.raises(CheckpointError, match="has 7 merges, .* needs 48894"):
        CLIPTokenizer.load(path, 49408, 77)
    path.write_text("\r\n".join(lines[1:]))  # without a heading, from Windows
    assert CLIPTokenizer.load(path, SIZES.vocab_size, 9).encode("red") == [513]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "can't be read as the merges of a tokenizer"),
        ("r e\nĠ t\nh e\nĠt he\ni n\ne r".encode(), "no merge with CLIP's end of word '</w>'"),
        (b"re d</w>\nr e\na t</w>\nc at</w>\n' s</w>\ne d", "merges 're d</w>' before it makes"),
    ],
)
def test_merges_of_another_tokenizer(tmp_path, content, said):
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        CLIPTokenizer.load(tmp_path / "merges.txt", SIZES.vocab_size, 9)


def test_broken_packed_merges(tmp_path):
    packed = gzip.compress("\n".join(map(" ".join, MERGES)).encode())
    for broken in (packed[:-12], b"no gzip", packed[:20] + b"\0" * 20):
        (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(broken)
        with pytest.raises(CheckpointError, match="can't be read as the merges"):
            CLIPTokenizer.load(find_merges(tmp_path), SIZES.vocab_size, 9)


# The whole folder


def test_a_folder_without_a_prior(tmp_path):
    (tmp_path / "clip").mkdir()
    with pytest.raises(CheckpointError, match="there is no folder prior in"):
        bridge.load(tmp_path)


def test_without_the_peer_its_extra_is_named(tmp_path, folder, monkeypatch):
    for name in ("clip", "prior", "decoder"):
        (tmp_path / name).mkdir()
    for path in folder.iterdir():
        if path.is_file():
            path.rename(tmp_path / "clip" / path.name)
    merges = "\n".join(["#version", *(" ".join(pair) for pair in MERGES)])
    (tmp_path / "clip" / "merges.txt").write_text(merges)
    monkeypatch.setitem(sys.modules, "dalle2_pytorch", None)
    with pytest.raises(PeerMissing, match=r"\[bridge\]"):
        bridge.load(tmp_path)


def test_a_key_that_no_class_has_is_named(monkeypatch):
    monkeypatch.setattr("minidalle2.bridge.peer.installed_version", lambda: "1.15.6")
    with pytest.raises(CheckpointError, match="config.json has the key 'depht', which Linear"):
        build(nn.Linear, {"in_features": 2, "depht": 3}, "config.json")
    with pytest.raises(CheckpointError, match="config.json is no valid Linear"):
        build(nn.Linear, {"in_features": 2}, "config.json")
    assert build(nn.Linear, {"in_features": 2}, "config.json", out_features=3).out_features == 3

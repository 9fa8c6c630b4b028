"""The exercises: student copies hold no solution, stop at their stubs, and pass when filled in;
typical wrong answers are caught, each with a hint at its own mistake."""

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F

from minidalle2.clip import info_nce
from minidalle2.teaching import students
from minidalle2.teaching.checks import (
    autoregressive_prior,
    bug_museum,
    clip,
    clip_space,
    clip_variants,
    compare,
    data,
    decoder,
    diffusion,
    evaluation_and_guidance,
    manipulations,
    prior,
    probing,
    real_pictures,
    scaling_up,
    text_to_emoji,
    text_to_image,
    tokens,
    upsamplers,
    your_own_folder,
)
from minidalle2.teaching.checks.compare import CheckFailed
from minidalle2.teaching.students import student_copy
from minidalle2.tokenizer import merge
from minidalle2.worlds.shapes.scenes import HELD_OUT_COLOUR

EXERCISES = sorted(students.EXERCISES.glob("*.ipynb"))
each_exercise = pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.name)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def solutions(path: Path) -> list[str]:
    text = "\n".join(code(read(path)))
    return re.findall(r"### BEGIN SOLUTION\n(.*?)\n[ ]*### END SOLUTION", text, re.DOTALL)


def run(sources: list[str]) -> int:
    """Executes cells in one namespace; how many of them ran before NotImplementedError."""
    names: dict = {}
    for i, source in enumerate(sources):
        try:
            exec(compile(source, f"cell {i}", "exec"), names)
        except NotImplementedError:
            return i
    return len(sources)


@each_exercise
def test_student_copies_hold_no_solution(path):
    copy = "\n".join(code(student_copy(read(path))))
    assert "BEGIN" not in copy and "END SOLUTION" not in copy and "seed=1" not in copy
    for solution in solutions(path):
        for line in solution.splitlines():
            if line.strip() not in ("", "i += 1", "i += 2", "else:"):
                assert line.strip() not in copy, line


@each_exercise
def test_student_copies_stop_at_the_first_stub(path):
    sources = [s for s in code(student_copy(read(path))) if "%pip" not in s]
    first_check = next(i for i, s in enumerate(sources) if s.startswith("check_"))
    assert run(sources) == first_check


@each_exercise
def test_student_copies_pass_when_filled_from_the_source(path):
    fill = iter(solutions(path))
    stub = re.compile(r"^[ ]*# YOUR CODE HERE\n[ ]*raise NotImplementedError\(\)$", re.MULTILINE)
    sources = [
        stub.sub(lambda match: next(fill), source) if stub.search(source) else source
        for source in code(student_copy(read(path)))
        if "%pip" not in source
    ]
    assert run(sources) == len(sources)
    assert not list(fill)


@each_exercise
def test_tasks_say_how_hard_how_long_and_why(path):
    tasks = [c.source for c in read(path).cells if c.source.startswith("## Task")]
    assert 3 <= len(tasks) <= 5
    for task in tasks:
        assert re.search(r"^\*(easy|medium|hard) · \d+ minutes · .+\*$", task, re.MULTILINE)


@each_exercise
def test_cells_carry_nbgraders_metadata(path):
    cells = [cell for cell in read(path).cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len(ids) == len(set(ids)) == len(read(path).cells)
    for cell in cells:
        assert cell.metadata.nbgrader.solution == ("### BEGIN SOLUTION" in cell.source)
        assert cell.metadata.nbgrader.grade == ("### BEGIN HIDDEN TESTS" in cell.source)


def test_a_script_writes_all_copies(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["students", str(tmp_path / "out")])
    students.main()
    assert len(list((tmp_path / "out").glob("*.ipynb"))) == len(EXERCISES)


def greedy(ids: list[int], rank: dict) -> list[int]:
    while pairs := [p for p in zip(ids, ids[1:], strict=False) if p in rank]:
        ids = merge(ids, pairs[0], 10 + rank[pairs[0]])
    return ids


def once(pieces: dict) -> Counter:
    return Counter(pair for piece in pieces for pair in zip(piece, piece[1:], strict=False))


def joint_drops(n: int, generator: torch.Generator):
    draw = torch.rand(n, generator=generator)
    return draw < 0.1, draw < 0.5


def first_only(logits: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def one_angle(a: torch.Tensor, b: torch.Tensor, theta: float) -> torch.Tensor:
    angle = torch.acos((a * b).sum(1)).mean()
    return (torch.sin((1 - theta) * angle) * a + torch.sin(theta * angle) * b) / torch.sin(angle)


# (check, a wrong answer, words of its hint): three and more for each exercise.
WRONG = {
    "01": [
        (data.check_coverage, lambda d, p: 0.5 - d / p, "more than covered"),
        (data.check_coverage, lambda d, p: (0.5 + d / p).clamp(0, 1), "exchanged"),
        (data.check_to_bytes, lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8), "cut off"),
        (data.check_holds_held_out, lambda s, c: (c == HELD_OUT_COLOUR[s]).any(1), "empty slots"),
        (
            data.check_relation,
            lambda x1, y1, x2, y2: (
                ("left of" if x1 < x2 else "right of")
                if abs(x1 - x2) > abs(y1 - y2)
                else ("below" if y1 < y2 else "above")
            ),
            "y grows downward",
        ),
    ],
    "02": [
        (tokens.check_count_pairs, once, "counts once"),
        (
            tokens.check_merge,
            lambda ids, p, n: [n if ids[i : i + 2] == list(p) else x for i, x in enumerate(ids)],
            "used twice",
        ),
        (tokens.check_encode, greedy, "learned first"),
        (
            tokens.check_decode,
            lambda ids, b: "".join(b(i).decode(errors="replace") for i in ids),
            "spread over",
        ),
        (
            tokens.check_decode,
            lambda ids, b: " ".join(b(i).decode(errors="replace") for i in ids),
            "their own spaces",
        ),
    ],
    "03": [
        (clip.check_info_nce, first_only, "Texts must find"),
        (clip.check_scale, torch.exp, "Clamp it"),
        (clip.check_clip_logits, lambda i, t, s: s.exp() * i @ t.T, "directions"),
        (
            clip.check_clip_logits,
            lambda i, t, s: F.normalize(i, dim=-1) @ F.normalize(t, dim=-1).T,
            "scale is missing",
        ),
        (clip.check_pool_at_end, lambda f, t: f[:, -1], "padding"),
        (
            clip.check_attention,
            lambda q, k, v: F.scaled_dot_product_attention(
                q * q.shape[1] ** 0.5, k, v, is_causal=True
            ),
            "grow with the dimension",
        ),
        (clip.check_attention, F.scaled_dot_product_attention, "also reads later positions"),
        (
            clip.check_attention,
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5).softmax(-1).tril() @ v,
            "after the softmax",
        ),
    ],
    "04": [
        (clip_space.check_project, lambda z, m, c: z @ c.T, "centred"),
        (clip_space.check_explained, lambda s: s.cumsum(0) / s.sum(), "squares"),
        (clip_space.check_zero_shot, lambda i, t: (i @ t.T).argmax(1), "directions"),
        (clip_space.check_modality_gap, lambda i, t: (i - t).norm(dim=1).mean(), "centres"),
    ],
    "05": [
        (clip_variants.check_shared_target, lambda t: (t[:, None] == t).all(-1).float(), "a third"),
        (clip_variants.check_shared_target, lambda t: torch.eye(len(t)), "belong to it, too"),
        (clip_variants.check_decoupled, first_only, "still part of the sum"),
        (
            clip_variants.check_decoupled,
            lambda x: (x.masked_fill(torch.eye(6).bool(), 0).logsumexp(1) - x.diagonal()).mean(),
            "-infinity",
        ),
        (clip_variants.check_text_to_picture, lambda a, w: a.amax(1).mean(-1).T, "as a word"),
        (
            clip_variants.check_text_to_picture,
            lambda a, w: (a.amax(1) * w).sum(-1).T / 5,
            "counts in the divisor",
        ),
        (
            clip_variants.check_text_to_picture,
            lambda a, w: a.masked_fill(~w, -math.inf).amax(-1).mean(1).T,
            "other direction",
        ),
        (
            clip_variants.check_towards,
            lambda p, t: -F.cosine_similarity(p, t).mean(),
            "agree on a constant",
        ),
        (
            clip_variants.check_towards,
            lambda p, t: -F.cosine_similarity(p.detach(), t).mean(),
            "agree on a constant",
        ),
        (clip_variants.check_towards, lambda p, t: -(p * t.detach()).sum(-1).mean(), "Lengths"),
        (
            clip_variants.check_uphill,
            lambda w, g, r: [a + r * b / b.norm() for a, b in zip(w, g, strict=True)],
            "its own step",
        ),
        (
            clip_variants.check_uphill,
            lambda w, g, r: [a.add_(r * b) for a, b in zip(w, g, strict=True)],
            "in place",
        ),
    ],
    "06": [
        (diffusion.check_add_noise, lambda x, a, e: a * x + (1 - a) * e, "square root"),
        (diffusion.check_x0_from_eps, lambda x, a, e: x - (1 - a) ** 0.5 * e, "Divide"),
        (
            diffusion.check_ddim_step,
            lambda x, e, h, t: (x - (1 - h) ** 0.5 * e) / h**0.5,
            "all the way",
        ),
        (diffusion.check_posterior_variance, lambda betas: betas, "larger of the two"),
        (diffusion.check_v_target, lambda x, a, e: (1 - a) ** 0.5 * x - a**0.5 * e, "is reversed"),
    ],
    "07": [
        (prior.check_scale_embedding, lambda z: z * 17.2, "1,024 dimensions only"),
        (prior.check_scale_embedding, lambda z: z, "drown"),
        (prior.check_drop_text, lambda t, z, n, d: (t, torch.where(d[:, None], n, z)), "tokens"),
        (prior.check_best_candidate, lambda c, z: c[:, 0], "first candidate is returned"),
        (
            prior.check_sequence,
            lambda t, z, s, n, q: torch.cat((torch.stack((z, s, n, q.expand(2, 4)), 1), t), 1),
            "caption comes first",
        ),
    ],
    "08": [
        (
            autoregressive_prior.check_to_buckets,
            lambda v, e: torch.bucketize(v, e, right=True) - 1,
            "has no bucket",
        ),
        (
            autoregressive_prior.check_to_buckets,
            lambda v, e: (v[:, None] > e[1:-1]).sum(1),
            "begins there",
        ),
        (
            autoregressive_prior.check_first_components,
            lambda v, m, c: m + v @ c[:2],
            "do not have length 1",
        ),
        (
            autoregressive_prior.check_first_components,
            lambda v, m, c: F.normalize(v @ c[:2], dim=-1),
            "directions from the mean",
        ),
        (autoregressive_prior.check_known_and_asked, lambda b: (b, b), "predicted after it"),
        (
            autoregressive_prior.check_known_and_asked,
            lambda b: (b[:, :-1], b[:, 1:]),
            "The prefix predicts it",
        ),
        (autoregressive_prior.check_pick, lambda z, c: z.argmax(-1), "most probable bucket"),
        (
            autoregressive_prior.check_pick,
            lambda z, c: (z.softmax(-1) < c[:, None]).sum(-1),
            "are not summed",
        ),
        (
            autoregressive_prior.check_wish,
            lambda p, c, n: (c * n).long().clamp(max=n - 1),
            "also those below",
        ),
        (
            autoregressive_prior.check_wish,
            lambda p, c, n: ((p + (1 - p) * c) * n).long(),
            "does not exist",
        ),
    ],
    "09": [
        (decoder.check_guide, lambda c, u, s: c + s * (c - u), "Scale 1 should be"),
        (
            decoder.check_modulate,
            lambda h, a, b: h * a[..., None, None] + b[..., None, None],
            "removes h",
        ),
        (decoder.check_context, lambda f, t, m: (torch.cat((f.view(2, 4, 6), t), 1), m), "mask"),
        (decoder.check_drops, joint_drops, "Independent draws"),
        (decoder.check_drops, lambda n, g: (torch.rand(n, generator=g) < 0.5,) * 2, "not 10%"),
    ],
    "10": [
        (
            upsamplers.check_aligned_crop,
            lambda h, w, t, x, s: (h[:, t : t + 2 * s, x : x + 2 * s], w[:, t : t + s, x : x + s]),
            "half as large",
        ),
        (
            upsamplers.check_gaussian_kernel,
            lambda n, s: torch.outer(
                *(torch.exp(-((torch.arange(n) - n // 2) ** 2) / (2 * s * s)),) * 2
            ),
            "add up to 1",
        ),
        (
            upsamplers.check_psnr,
            lambda a, b: 10 * (1 / (a - b).square().mean()).log10(),
            "taken for 1",
        ),
        (
            upsamplers.check_network_input,
            lambda x, w: torch.cat((x, F.interpolate(w, scale_factor=2, mode="bicubic")), 1),
            "overshoot",
        ),
    ],
    "11": [
        (
            text_to_image.check_chain,
            lambda p, tok, enc, prior, dec, a, b: b(a(dec(enc(tok(p)), tok(p)))),
            "was given z_t",
        ),
        (
            text_to_image.check_chain,
            lambda p, tok, enc, prior, dec, a, b: a(dec(prior(enc(tok(p)), tok(p)), tok(p))),
            "Continue to 128",
        ),
        (text_to_image.check_all_right, lambda a, t: (a == t).float().mean(), "not pictures"),
        (text_to_image.check_faithful, lambda d, w: (d @ w.mT).amax(-1).argmax(1), "its own"),
        (
            text_to_image.check_interval,
            lambda r, n: (
                r / n - 1.96 * (r / n * (1 - r / n) / n) ** 0.5,
                r / n + 1.96 * (r / n * (1 - r / n) / n) ** 0.5,
            ),
            "certainty",
        ),
    ],
    "12": [
        (manipulations.check_slerp, torch.lerp, r"straight line\. Its middle"),
        (
            manipulations.check_slerp,
            lambda a, b, t: F.normalize(torch.lerp(a, b, t), dim=-1),
            "faster in the middle",
        ),
        (manipulations.check_slerp, one_angle, "Each row has its own"),
        (
            manipulations.check_step_up,
            lambda x, x0, h, t: t**0.5 * x0 + (x - t**0.5 * x0),
            "Nothing moves",
        ),
        (
            manipulations.check_step_up,
            lambda x, x0, h, t: t**0.5 * x0 + ((1 - t) / (1 - h)) ** 0.5 * (x - h**0.5 * x0),
            "asked at `there`",
        ),
        (manipulations.check_edited, lambda z, a, b, t, slerp: slerp(z, b, t), "is not used"),
        (
            manipulations.check_edited,
            lambda z, a, b, t, slerp: slerp(z, b - a, t),
            "its angle to z_i",
        ),
        (
            manipulations.check_edited,
            lambda z, a, b, t, slerp: F.normalize(z + t * F.normalize(b - a, dim=-1), dim=-1),
            "along the circle",
        ),
        (
            manipulations.check_put_back,
            lambda u, x, k, e, t: torch.where(k, x, u),
            "put back clean",
        ),
        (
            manipulations.check_put_back,
            lambda u, x, k, e, t: torch.where(k, u, t**0.5 * x + (1 - t) ** 0.5 * e),
            "mask is inverted",
        ),
    ],
    "13": [
        (
            probing.check_first_components,
            lambda z, m, c, k: m + (z - m) @ c[:k].T @ c[:k],
            "shorter than 1",
        ),
        (
            probing.check_first_components,
            lambda z, m, c, k: F.normalize(z @ c[:k].T @ c[:k], dim=-1),
            "neither subtracted nor added",
        ),
        (probing.check_flipped, lambda b, a, t, w: (a == w).float().mean(), "before the sign"),
        (
            probing.check_flipped,
            lambda b, a, t, w: (a != t)[b == t].float().mean(),
            "Any mistake counts",
        ),
        (
            probing.check_all_four,
            lambda s: (s.argmax(2) == torch.arange(2)).all(1).float().mean(),
            "down the columns",
        ),
        (
            probing.check_all_four,
            lambda s: (s[:, 0, 0] + s[:, 1, 1] > s[:, 0, 1] + s[:, 1, 0]).float().mean(),
            "added up",
        ),
        (
            probing.check_letter_error,
            lambda w, t: sum(map(str.__ne__, w, t)) / len(w),
            "missing or added",
        ),
        (
            probing.check_letter_error,
            lambda w, t: (sum(map(str.__ne__, w, t)) + abs(len(w) - len(t))) / len(w),
            "only moved",
        ),
    ],
    "14": [
        (evaluation_and_guidance.check_enough, lambda h: int((1.96 / h) ** 2 / 4), "Round up"),
        (evaluation_and_guidance.check_enough, lambda h: math.ceil(0.25 / h**2), "two thirds"),
        (
            evaluation_and_guidance.check_frechet,
            lambda a, b: (a.mean(0) - b.mean(0)).square().sum(),
            "without variety",
        ),
        (
            evaluation_and_guidance.check_frechet,
            lambda a, b: (
                (a.mean(0) - b.mean(0)).square().sum() + (a.var(0) - b.var(0)).square().sum()
            ),
            "roots",
        ),
        (
            evaluation_and_guidance.check_recall,
            lambda d, r, k: (
                (torch.cdist(d, r) <= torch.cdist(r, r).kthvalue(k + 1, 1).values)
                .any(1)
                .float()
                .mean()
            ),
            "This is precision",
        ),
        (
            evaluation_and_guidance.check_recall,
            lambda d, r, k: (
                (torch.cdist(r, d) <= torch.cdist(d, d).kthvalue(k, 1).values).any(1).float().mean()
            ),
            "too small",
        ),
        (
            evaluation_and_guidance.check_diversity,
            lambda z: 1 - (z @ z.mT).mean((1, 2)),
            "with itself",
        ),
        (
            evaluation_and_guidance.check_diversity,
            lambda z: 1 - (z[:, 1:] * z[:, :-1]).sum(-1).mean(1),
            "six pairs",
        ),
    ],
    "15": [
        (
            real_pictures.check_compose,
            lambda d, c: 2 * (d[:, :3] * d[:, 3:] + (1 - d[:, 3:]) * c[:, None, None]) - 1,
            "once more",
        ),
        (
            real_pictures.check_compose,
            lambda d, c: d[:, :3] + (1 - d[:, 3:]) * c[:, None, None],
            r"These are in \[0, 1\]",
        ),
        (
            real_pictures.check_halve,
            lambda s: torch.cat(
                (F.avg_pool2d(s[:3], 2) * F.avg_pool2d(s[3:], 2), F.avg_pool2d(s[3:], 2))
            ),
            "darken",
        ),
        (
            real_pictures.check_blind_loss,
            lambda s: (s[:, None] == s).sum(1).float().mean().log(),
            "before the logarithm",
        ),
        (real_pictures.check_ensemble, lambda z: z.mean(1), "shorter"),
        (
            real_pictures.check_ensemble,
            lambda z: F.normalize(z.mean(0), dim=-1),
            "Take it over the styles",
        ),
        (
            real_pictures.check_leaks,
            lambda c, s: [x for x in c if any(w in x for w in s)],
            "whole words",
        ),
    ],
    "16": [
        (
            text_to_emoji.check_distances,
            lambda x, t: (t - x).square().mean((1, 2, 3)).sqrt(),
            "differ by 2, not by 1",
        ),
        (
            text_to_emoji.check_distances,
            lambda x, t: (t - x).div(2).flatten(1).norm(dim=1),
            "added up",
        ),
        (text_to_emoji.check_excess, lambda d, r, n: (d < n).float().mean(), "How much is normal"),
        (
            text_to_emoji.check_excess,
            lambda d, r, n: (d < n).float().sum() - (r < n).float().sum(),
            "are counted",
        ),
        (
            text_to_emoji.check_readable,
            lambda d, r: d.float().mean() / r.float().mean(),
            "shares of all are divided",
        ),
        (text_to_emoji.check_restyle, lambda z, a, b: z + b - a, "not of unit length"),
        (text_to_emoji.check_restyle, lambda z, a, b: F.normalize(z + b, dim=-1), "still in z"),
    ],
    "17": [
        (
            your_own_folder.check_metadata_line,
            lambda f, t: f'{{"file_name": "{f}", "text": "{t}"}}',
            "is not valid JSON|in two",
        ),
        (
            your_own_folder.check_metadata_line,
            lambda f, t: json.dumps({"file_name": f, "caption": t}),
            "must be `text`",
        ),
        (your_own_folder.check_held_out, lambda f: int(f[-8:-4]) % 20 == 0, "in order"),
        (
            your_own_folder.check_held_out,
            lambda f: (
                int.from_bytes(hashlib.sha256(f.encode()).digest()[:8], "little") < 2**64 / 20
            ),
            "wrong end",
        ),
        (
            your_own_folder.check_square,
            lambda p: p[:, : min(p.shape[1:]), : min(p.shape[1:])],
            "upper left",
        ),
        (
            your_own_folder.check_twins,
            lambda p, n: [
                (i, j) for i in range(7) for j in range(i + 1, 7) if torch.equal(p[i], p[j])
            ],
            "equal",
        ),
        (
            your_own_folder.check_twins,
            lambda p, n: [
                (i, j)
                for i in range(7)
                for j in range(7)
                if (p[i] - p[j]).square().mean().sqrt() < n
            ],
            "with itself",
        ),
    ],
    "18": [
        (
            scaling_up.check_convolution_operations,
            lambda n, i, o, k, s: n * i * o * k**2 * s**2,
            "comes with an addition",
        ),
        (
            scaling_up.check_convolution_operations,
            lambda n, i, o, k, s: 2 * n * i * o * k * s**2,
            "kernel²",
        ),
        (
            scaling_up.check_convolution_operations,
            lambda n, i, o, k, s: 2 * n * o * k**2 * s**2,
            "all input channels",
        ),
        (scaling_up.check_roof, lambda i, p, b: (i * b).clamp(min=p), "it is the lower"),
        (scaling_up.check_roof, lambda i, p, b: i * b, "Only the limit of the memory"),
        (scaling_up.check_roof, lambda i, p, b: (b / i).clamp(max=p), "operations per byte"),
        (scaling_up.check_whole_gradient, lambda g, s: g.mean(0), "the same weight"),
        (scaling_up.check_whole_gradient, lambda g, s: g.sum(0), "a sum of means"),
        (scaling_up.check_whole_gradient, lambda g, s: s.float() @ g, "the sum over samples"),
        (
            scaling_up.check_exchange_seconds,
            lambda p, n, link: 4 * p * (n - 1) / n / link,
            "half of it",
        ),
        (
            scaling_up.check_exchange_seconds,
            lambda p, n, link: 2 * p * (n - 1) / n / link,
            "four bytes",
        ),
        (scaling_up.check_exchange_seconds, lambda p, n, link: 8 * p / link, "of its N pieces"),
        (
            scaling_up.check_exchange_seconds,
            lambda p, n, link: 8 * p * (n - 1) / link,
            "an N-th of the gradients",
        ),
        (
            scaling_up.check_loss_of_all,
            lambda i, t, s: torch.stack(
                [info_nce(s * a @ b.T) for a, b in zip(i, t, strict=True)]
            ).mean(),
            "Gather first",
        ),
        (
            scaling_up.check_loss_of_all,
            lambda i, t, s: first_only(s * i.flatten(0, 1) @ t.flatten(0, 1).T),
            "Texts must find their pictures",
        ),
        (
            scaling_up.check_loss_of_all,
            lambda i, t, s: info_nce(i.flatten(0, 1) @ t.flatten(0, 1).T),
            "scale is missing",
        ),
    ],
    "19": [
        (
            bug_museum.check_sees,
            lambda f, x, o: not torch.equal(f(torch.cat((x[:1], o[1:2], x[2:]))), f(x)),
            "leaks into the other rows",
        ),
        (
            bug_museum.check_sees,
            lambda f, x, o: not torch.equal(f(torch.cat((x[:1], o[1:2], x[2:])))[1], f(x)[1]),
            "leaks into the other rows",
        ),
        (
            bug_museum.check_levels,
            lambda a, t: torch.stack((a[t], torch.cat((a[t[1:]], a[:1]))), 1),
            "goes nowhere",
        ),
        (
            bug_museum.check_levels,
            lambda a, t: torch.stack(
                (
                    a[t - 1].where(t > 0, torch.ones(4)),
                    torch.cat((a[t[1:] - 1].where(t[1:] > 0, torch.ones(3)), torch.ones(1))),
                ),
                1,
            ),
            "beside those",
        ),
        (bug_museum.check_remembered, lambda n, d: d**n, "no warm-up"),
        (
            bug_museum.check_remembered,
            lambda n, d: math.prod(min(d, (2 + k) / (11 + k)) for k in range(n)),
            "counted from 1",
        ),
        (
            bug_museum.check_log_variance,
            lambda f, s, m: ((f + 1) / 2 * m + (1 - f) / 2 * s).log(),
            "Mix the logarithms",
        ),
        (
            bug_museum.check_log_variance,
            lambda f, s, m: f * m.log() + (1 - f) * s.log(),
            "from -1 to 1",
        ),
        (
            bug_museum.check_misfits,
            lambda m, f: (sorted(set(f) - set(m)), sorted(set(m) - set(f))),
            "exchanged",
        ),
        (bug_museum.check_misfits, lambda m, f: (sorted(set(m) - set(f)), []), "another name"),
    ],
}


@pytest.mark.parametrize(
    ("check", "wrong", "hint"),
    [case for cases in WRONG.values() for case in cases],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_typical_mistakes_get_their_own_hint(check, wrong, hint):
    with pytest.raises(CheckFailed, match=hint):
        check(wrong)


def test_every_exercise_has_three_wrong_answers():
    assert [path.name[:2] for path in EXERCISES] == list(WRONG)
    assert min(map(len, WRONG.values())) >= 3


def test_answers_of_the_wrong_kind_are_named():
    truth = torch.ones(2, 3)
    for answer, hint in (
        (None, "returned None"),
        ([1.0], r"a list\. Return a tensor"),
        (torch.ones(3, 2), r"shape \(3, 2\)\. It should be \(2, 3\)"),
        (torch.full((2, 3), torch.nan), "NaN"),
        (torch.ones(2, 3, dtype=torch.bool), "torch.bool"),
        (torch.zeros(2, 3), "100% of the numbers differ"),
    ):
        with pytest.raises(CheckFailed, match=hint):
            compare.compare("it", answer, truth)
    with pytest.raises(CheckFailed, match="the answer is 'b'"):
        compare.compare("it", "b", "a")


def test_changing_an_input_is_a_mistake_of_its_own():
    with pytest.raises(CheckFailed, match="in place"):
        compare.call("it", lambda x: x.mul_(2), torch.ones(2))

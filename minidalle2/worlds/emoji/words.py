"""The words of the emoji world in English and Chinese: styles, backgrounds, kinds of things."""

STYLE_LICENCES = {  # SPDX identifiers; data/emoji/LICENSES has the texts
    "noto": "Apache-2.0",
    "blob": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "openmoji": "CC-BY-SA-4.0",
    "fluent": "MIT",
    "flat": "MIT",
}
STYLES = tuple(STYLE_LICENCES)

# Name: (Chinese name, RGB). A caption without a background means white.
BACKGROUNDS = {
    "white": ("白色", (255, 255, 255)),
    "black": ("黑色", (20, 20, 20)),
    "gray": ("灰色", (150, 150, 150)),
    "red": ("红色", (220, 60, 55)),
    "orange": ("橙色", (245, 150, 50)),
    "yellow": ("黄色", (250, 220, 90)),
    "green": ("绿色", (80, 175, 90)),
    "blue": ("蓝色", (65, 115, 225)),
    "purple": ("紫色", (145, 85, 200)),
    "pink": ("粉色", (250, 165, 205)),
    "brown": ("棕色", (135, 90, 55)),
}
WHITE = 0  # index in BACKGROUNDS

# Beginning of the name of a Unicode subgroup → the kind of its members in English and Chinese.
KINDS = {
    "face-": ("face", "脸"),
    "cat-face": ("cat", "猫"),
    "monkey-face": ("monkey", "猴子"),
    "heart": ("heart", "心"),
    "hand": ("hand", "手"),
    "body-parts": ("part of the body", "身体部位"),
    "person": ("person", "人"),
    "family": ("people", "人"),
    "animal-bird": ("bird", "鸟"),
    "animal-reptile": ("reptile", "爬行动物"),
    "animal-marine": ("sea animal", "海洋动物"),
    "animal-bug": ("small animal", "小动物"),
    "animal-": ("animal", "动物"),
    "plant-flower": ("flower", "花"),
    "plant-": ("plant", "植物"),
    "food-fruit": ("fruit", "水果"),
    "food-vegetable": ("vegetable", "蔬菜"),
    "food-sweet": ("dessert", "甜点"),
    "food-": ("food", "食物"),
    "drink": ("drink", "饮料"),
    "place-building": ("building", "建筑"),
    "place-religious": ("building", "建筑"),
    "place-": ("place", "地方"),
    "transport-ground": ("land traffic", "陆上交通"),
    "transport-water": ("ship", "船"),
    "transport-air": ("air traffic", "空中交通"),
    "time": ("clock", "时钟"),
    "sky-weather": ("sky", "天空"),
    "award-medal": ("award", "奖"),
    "sport": ("sport", "运动"),
    "game": ("game", "游戏"),
    "clothing": ("clothing", "服饰"),
    "musical-instrument": ("musical instrument", "乐器"),
    "book-paper": ("paper", "书纸"),
    "money": ("money", "钱"),
    "writing": ("writing", "书写"),
    "office": ("office", "办公"),
    "tool": ("tool", "工具"),
    "science": ("science", "科学"),
    "medical": ("medicine", "医疗"),
    "household": ("household", "家居"),
    "arrow": ("arrow", "箭头"),
    "religion": ("religion", "宗教"),
    "zodiac": ("zodiac sign", "星座"),
    "geometric": ("shape", "图形"),
}

# Beginning of the name of a Unicode subgroup → the class of its members. The rest are objects.
# The grammars have a rule for each class: "a cup of [noun]", "一只[noun]".
CLASSES = {
    "face-": "face",
    "cat-face": "animal",
    "monkey-face": "animal",
    "hand": "hand",
    "body-parts": "hand",
    "person": "person",
    "family": "person",
    "animal-": "animal",
    "plant-": "plant",
    "food-": "food",
    "drink": "drink",
    "place-": "place",
    "transport-ground": "vehicle",
    "transport-water": "vehicle",
    "transport-air": "vehicle",
    "clothing": "clothing",
    "book-paper": "book",
}

# Names that have no article although they look singular.
NO_ARTICLE = """
rolling on the floor laughing, star-struck, zzz, hundred points, dashing away, dizzy, thumbs up,
thumbs down, santa claus, mrs. claus, horse racing, cooking, bread, baguette bread, garlic,
ginger root, broccoli, bacon, cut of meat, meat on bone, popcorn, butter, salt, canned food,
cooked rice, curry rice, spaghetti, oden, sushi, dango, shaved ice, soft ice cream, ice cream,
candy, custard, sake, bubble tea, mate, ice, pouring liquid, mount fuji, camping, rock, wood,
tokyo tower, statue of liberty, kaaba, foggy, sunrise, sunrise over mountains, sunset, cityscape,
cityscape at dusk, construction, milky way, fog, fire, high voltage, baseball, softball, basketball,
volleyball, american football, rugby football, tennis, bowling, field hockey, ice hockey, lacrosse,
ping pong, badminton, performing arts, yarn, thread, airplane departure, airplane arrival, dna,
e-mail, locked, unlocked, locked with pen, locked with key, soap, x-ray, chart increasing,
chart decreasing, chart increasing with yen, hourglass done, hourglass not done, leafy green,
moon viewing ceremony, nail polish, potable water, non-potable water, men's room, women's room,
passport control, customs, baggage claim, left luggage, warning, children crossing, no entry,
prohibited, radioactive, biohazard, om, yin yang, cinema, wireless, vibration mode,
mobile phone off, multiply, plus, minus, divide, infinity, currency exchange, copyright, registered,
trade mark, information, circled m, money with wings, family, no bicycles, no smoking, no littering,
no pedestrians, no mobile phones, no one under eighteen, palms up together, breast-feeding,
people with bunny ears, people wrestling, people hugging, coral, building construction, luggage,
input latin uppercase, input latin lowercase, aries, taurus, gemini, cancer, leo, virgo, libra,
scorpio, sagittarius, capricorn, aquarius, pisces, ophiuchus
"""
BARE = {name.strip() for name in NO_ARTICLE.split(",")}

# What the world does not contain (data/emoji/README.md), for messages.
NOT_INCLUDED = (
    "flags, skin tones, people in several roles, and 24 names that do not suit a classroom"
)

"""Texts and pre-tokenizer patterns that make_tokenizers.py and compare_tokenizers.py share."""

# The pattern by which the pre-tokenizer of each family splits, as its tokenizer.json has it.
PATTERNS = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}

CORPUS = """The quick brown fox's 12 dogs won't jump; they're lazy (since 1999)! I'LL see, you'Ve been.
def f(x):\n    return x ** 2  # square\n\n\tif (a && b) { puts("\\n"); }
Ünïcödé straße, naïve café, Ångström. Zażółć gęślą jaźń. Příliš žluťoučký kůň.
Съешь же ещё этих мягких французских булок. Ελληνικά γράμματα. עברית נִקּוּד. العَرَبِيَّة ١٢٣.
हिन्दी में लिखा १२३। বাংলা ภาษาไทย ကမ္ဘာ កម្ពុជា 日本語のテキスト、漢字とかな。 中文测试:你好,世界! 한국어 텍스트
🦙🚀 👩‍👩‍👧‍👦 🇫🇷 ❤️ ½ ² Ⅷ ① ǅ ﬁ e\u0301 \u1100\u1161 a\u200bb \u00a0\u3000\u180e\u2028 'ſ \x00 \x1f \x85""".split(" ")
PIECES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "   ", "'s", "'LL", "123", "4567", "!?", "...", "\u2581", "—", "\u00a0"]


def random_text(rng, specials):
    parts = []
    for _ in range(rng.randint(0, 30)):
        kind = rng.random()
        if kind < 0.5:
            parts.append(rng.choice(CORPUS))
            if rng.random() < 0.7:
                parts.append(" ")
        elif kind < 0.75:
            parts.append(rng.choice(PIECES))
        elif kind < 0.8 and specials:
            parts.append(rng.choice(specials))
        elif kind < 0.9:
            parts.append("".join(chr(rng.randint(0x20, 0x7E)) for _ in range(rng.randint(1, 8))))
        else:
            # Assigned long ago, so that no two Unicode versions differ on it.
            low, high = rng.choice([(0xA1, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x5D0, 0x5EA), (0x621, 0x64A),
                                    (0x905, 0x939), (0xE01, 0xE2E), (0x3041, 0x3096), (0x4E00, 0x9FA5),
                                    (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF), (0x300, 0x33F), (0x2000, 0x206F)])
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
    return "".join(parts)

"""The block formats of GGUF (layouts: kernels/include/distc/kernels/WeightType.h), element by element."""
import struct
from array import array

# type: its number in GGUF, elements and bytes of a block, places of its f16 fields, what elements spread by for d = 1 and the
# minimum that makes their mean 0
FORMATS = {
    "Q8_0": (8, 32, 34, (0,), 73.9, 0), "Q4_0": (2, 32, 18, (0,), 4.61, 0), "Q4_1": (3, 32, 20, (0, 2), 4.61, -7.5),
    "Q5_0": (6, 32, 22, (0,), 9.23, 0), "Q5_1": (7, 32, 24, (0, 2), 9.23, -15.5),
    "Q2_K": (10, 256, 84, (80, 82), 14.0, 1.5), "Q3_K": (11, 256, 110, (108,), 43.3, 0),
    "Q4_K": (12, 256, 144, (0, 2), 258.0, 7.5), "Q5_K": (13, 256, 176, (0, 2), 527.0, 15.5),
    "Q6_K": (14, 256, 210, (208,), 1366.0, 0),
}


def row_bytes(dtype, columns):
    _, elements, size, *_ = FORMATS[dtype]
    assert columns % elements == 0, (dtype, columns)
    return columns // elements * size


def random_blocks(rng, dtype, count, scale):
    """`count` blocks of random bits, whose values have about the standard deviation `scale`. `rng`: a random.Random."""
    _, _, size, halves, deviation, minimum = FORMATS[dtype]
    out = bytearray(rng.randbytes(count * size))
    for block in range(count):
        d = scale / deviation * rng.uniform(0.5, 1.5)
        for place, value in zip(halves, (d, d * minimum)):
            struct.pack_into("<e", out, block * size + place, value)
    return bytes(out)


def _nibbles(packed):
    return [b & 15 for b in packed] + [b >> 4 for b in packed]


def _block(b, dtype):
    half = [struct.unpack_from("<e", b, at)[0] for at in FORMATS[dtype][3]]
    d, m = half[0], half[-1]
    if dtype == "Q8_0":
        return [d * q for q in struct.unpack_from("<32b", b, 2)]
    if dtype in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        q = _nibbles(b[-16:])
        if dtype[1] == "5":
            fifth = int.from_bytes(b[2 * len(half) : 2 * len(half) + 4], "little")
            q = [v | (fifth >> i & 1) << 4 for i, v in enumerate(q)]
        return [d * (v - (8 if dtype == "Q4_0" else 16)) for v in q] if len(half) == 1 else [d * v + m for v in q]
    if dtype in ("Q4_K", "Q5_K"):
        s, high, out = b[4:16], b[16:48], []
        for i in range(8):
            scale = s[i] & 63 if i < 4 else (s[i + 4] & 15) | s[i - 4] >> 6 << 4
            least = s[i + 4] & 63 if i < 4 else s[i + 4] >> 4 | s[i] >> 6 << 4
            at = len(b) - 128 + 32 * (i // 2)
            q = [v >> 4 * (i % 2) & 15 for v in b[at : at + 32]]
            if dtype == "Q5_K":
                q = [v | (h >> i & 1) << 4 for v, h in zip(q, high)]
            out += [d * scale * v - m * least for v in q]
        return out
    out = []
    for i in range(8):  # 32 elements that share a shift
        n, j = divmod(i, 4)
        if dtype == "Q2_K":
            q = [v >> 2 * j & 3 for v in b[16 + 32 * n : 48 + 32 * n]]
            scales = [(d * (s & 15), m * (s >> 4)) for s in b[2 * i : 2 * i + 2]]
        elif dtype == "Q3_K":
            q = [(v >> 2 * j & 3) + (h >> i & 1) * 4 - 4 for v, h in zip(b[32 + 32 * n : 64 + 32 * n], b[:32])]
            scales = []
            for g in (2 * i, 2 * i + 1):
                low = b[96 + g] & 15 if g < 8 else b[88 + g] >> 4
                scales.append((d * ((low | (b[104 + g % 4] >> 2 * (g // 4) & 3) << 4) - 32), 0))
        else:
            at = 64 * n + 32 * (j % 2)
            q = [(v >> 4 * (j // 2) & 15 | (h >> 2 * j & 3) << 4) - 32
                 for v, h in zip(b[at : at + 32], b[128 + 32 * n : 160 + 32 * n])]
            scales = [(d * s, 0) for s in struct.unpack_from("<2b", b, 192 + 2 * i)]
        for k, (scale, least) in enumerate(scales):
            out += [scale * v - least for v in q[16 * k : 16 * k + 16]]
    return out


def dequantize(raw, dtype):
    """The values as F32."""
    size, out = FORMATS[dtype][2], array("f")
    for begin in range(0, len(raw), size):
        out.extend(_block(raw[begin : begin + size], dtype))
    return out

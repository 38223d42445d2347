#!/usr/bin/env python3
"""Odd but valid image files, as convzoo decodes them and as PIL does.

Run by hand, with Python packages pillow (with WebP) and numpy:

    python tests/with_pil.py            # makes the files anew and compares
    python tests/with_pil.py --record   # writes tests/fixtures/images/odd.json.gz as well

Every file is made here: by PIL's writers, or by the small ones below for what PIL does not write
(JPEG with any sampling and any order of scans, BMP with run lengths and bit fields, interlaced and
16-bit PNG). What is right is PIL's `exif_transpose` and `convert("RGB")`; the comparison itself is the
test `odd_images_are_pils` in tests/pictures.rs.

How far a sample may be off: 0 for lossless formats; 1 where 16 bits are rounded to 8 (PIL cuts) and
where inks become colours; for JPEG and WebP what the rounding of transforms and of the upsampling of
colour explains. A wrong decode is off by 100 and more.
"""

import gzip
import io
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).parent
RECORDED = ROOT / "fixtures/images/odd.json.gz"
# Largest and mean difference of a sample.
EXACT, ROUNDED, JPEG, WEBP = (0, 0.0), (1, 1.0), (12, 1.0), (6, 1.0)

# Of most images: with a part of a block at both ends, whatever the sampling.
SIDES = 29, 21


def scene(width, height):
    """Slopes, a disc and a bar: smooth parts, edges, and saturated colours."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    blue = 128 + 100 * np.sin(x / 3 + y / 5)
    image = np.stack([red, green, blue], -1)
    image[(x - width * 0.6) ** 2 + (y - height * 0.4) ** 2 < (0.25 * min(width, height)) ** 2] = 230, 30, 40
    image[(abs(x - width * 0.2) < width * 0.08) & (y > height * 0.3)] = 20, 200, 60
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


ALL = {}


def add(name, data, tolerance=EXACT, expected=None, refused=None):
    """A file of the set. `expected` is another file's bytes, where PIL itself does not read this one."""
    assert name not in ALL, name
    entry = {"file": data, "most": tolerance[0], "mean": tolerance[1]}
    if refused is not None:
        entry["refused"] = refused
    else:
        image = Image.open(io.BytesIO(expected if expected is not None else data))
        entry["pixels"] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    ALL[name] = entry


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation, order="<"):
    """EXIF data with an orientation, without a prefix."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


# JPEG

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
DCT = np.array([[math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * n + 1) * k * math.pi / 16)
                 for n in range(8)] for k in range(8)])


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + bytes(body)


class Bits:
    """Coded data: DC sizes have codes of 4 bits, AC symbols of 8 or 9, none of ones alone."""

    def __init__(self):
        self.text = []

    def symbol(self, symbol, ac):
        if not ac:
            self.text.append(f"{symbol:04b}")
        else:
            self.text.append(f"{symbol:08b}" if symbol < 254 else f"{508 + symbol - 254:09b}")

    def value(self, value, size):
        if size:
            self.text.append(f"{value if value > 0 else value + (1 << size) - 1:0{size}b}")

    def bytes(self):
        text = "".join(self.text)
        text += "1" * (-len(text) % 8)
        data = bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
        return data.replace(b"\xff", b"\xff\0")


TABLES = segment(0xC4, bytes([0, 0, 0, 0, 12] + [0] * 12 + list(range(12)))) + \
    segment(0xC4, bytes([0x10] + [0] * 7 + [254, 2] + [0] * 7 + list(range(256))))


def blocks(plane, step):
    """Quantised coefficients [rows, columns, 64] in zigzag order."""
    rows, cols = plane.shape[0] // 8, plane.shape[1] // 8
    cut = plane.reshape(rows, 8, cols, 8).transpose(0, 2, 1, 3) - 128.0
    cut = np.rint(DCT @ cut @ DCT.T / step).astype(int)
    return cut.reshape(rows, cols, 64)[:, :, ZIGZAG]


def code_block(bits, block, first, last, before):
    if first == 0:
        size = int(abs(block[0] - before)).bit_length()
        bits.symbol(size, False)
        bits.value(int(block[0] - before), size)
    run = 0
    for value in block[max(first, 1):last + 1].tolist():
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.symbol(0xF0, True)
            run -= 16
        size = abs(value).bit_length()
        bits.symbol(run << 4 | size, True)
        bits.value(value, size)
        run = 0
    if run and last > 0:
        bits.symbol(0, True)


def jpeg(planes, sampling, scans=None, progressive=False, restart=0, ids=(1, 2, 3, 4), extra=b"",
         step=6, end=b"\xff\xd9", wide=False):
    """A JPEG of full-size `planes`. `scans` lists (components, first, last coefficient)."""
    height, width = planes[0].shape
    most = [max(s[i] for s in sampling) for i in (0, 1)]
    mcus = [-(-width // (8 * most[0])), -(-height // (8 * most[1]))]
    coded, sizes = [], []
    for plane, (h, v) in zip(planes, sampling):
        pad = [(0, mcus[1] * 8 * most[1] - height), (0, mcus[0] * 8 * most[0] - width)]
        full = np.pad(plane.astype(float), pad, "edge")
        fx, fy = most[0] // h, most[1] // v
        small = full.reshape(full.shape[0] // fy, fy, full.shape[1] // fx, fx).mean((1, 3))
        coded.append(blocks(small, step))
        sizes.append((-(-(-(-width * h // most[0])) // 8), -(-(-(-height * v // most[1])) // 8)))
    table = struct.pack(">64H", *[step] * 64) if wide else bytes([step] * 64)
    out = b"\xff\xd8" + extra + segment(0xDB, bytes([0x10 if wide else 0]) + table)
    frame = struct.pack(">BHHB", 8, height, width, len(planes))
    frame += b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, sampling))
    out += segment(0xC2 if progressive else 0xC1 if wide else 0xC0, frame) + TABLES
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    for chosen, first, last in scans or [(range(len(planes)), 0, 63)]:
        head = bytes([len(chosen)]) + b"".join(bytes([ids[c], 0]) for c in chosen)
        out += segment(0xDA, head + bytes([first, last, 0]))
        units = []
        if len(chosen) == 1:
            c, (cols, rows) = chosen[0], sizes[chosen[0]]
            units = [[(c, y, x)] for y in range(rows) for x in range(cols)]
        else:
            for my, mx in itertools.product(range(mcus[1]), range(mcus[0])):
                units.append([(c, my * sampling[c][1] + y, mx * sampling[c][0] + x) for c in chosen
                              for y in range(sampling[c][1]) for x in range(sampling[c][0])])
        bits, before = Bits(), [0] * 4
        for i, unit in enumerate(units):
            if restart and i and i % restart == 0:
                out += bits.bytes() + bytes([0xFF, 0xD0 + (i // restart - 1) % 8])
                bits, before = Bits(), [0] * 4
            for c, y, x in unit:
                block = coded[c][y, x]
                code_block(bits, block, first, last, before[c])
                before[c] = block[0]
        out += bits.bytes()
    return out + end


def ycc(image):
    return list(np.asarray(image.convert("YCbCr")).transpose(2, 0, 1))


ADOBE = {transform: segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])) for transform in (0, 1, 2)}
SPLIT = [([0], 0, 63), ([1], 0, 63), ([2], 0, 63)]
FALLING = [([0], 0, 0), ([1], 0, 0), ([2], 0, 0), ([2], 1, 63), ([0], 1, 5), ([1], 1, 63), ([0], 6, 63)]
SCANS = {
    "whole": dict(),
    "split": dict(scans=SPLIT),
    "split-back": dict(scans=SPLIT[::-1]),
    "split-1-2": dict(scans=[([0], 0, 63), ([1, 2], 0, 63)]),
    "split-2-1": dict(scans=[([0, 1], 0, 63), ([2], 0, 63)]),
    "split-restart": dict(scans=SPLIT, restart=2),
    "restart": dict(restart=1),
    "progressive": dict(progressive=True, scans=[([0, 1, 2], 0, 0), ([0], 1, 63), ([1], 1, 63), ([2], 1, 63)]),
    "progressive-split": dict(progressive=True, scans=FALLING),
}
SAMPLINGS = {
    "444": [(1, 1)] * 3, "422": [(2, 1), (1, 1), (1, 1)], "440": [(1, 2), (1, 1), (1, 1)],
    "420": [(2, 2), (1, 1), (1, 1)], "411": [(4, 1), (1, 1), (1, 1)], "410": [(4, 2), (1, 1), (1, 1)],
    "441": [(1, 4), (1, 1), (1, 1)], "3x1": [(3, 1), (1, 1), (1, 1)], "mixed": [(2, 2), (2, 1), (1, 2)],
    "all-2x1": [(2, 1)] * 3, "fine-colour": [(1, 1), (2, 2), (2, 2)], "wide-colour": [(2, 2), (1, 2), (1, 2)],
    "crossed": [(1, 2), (2, 1), (1, 1)],
}


def jpegs():
    image = scene(*SIDES)
    for (sampling, factors), (order, options) in itertools.product(SAMPLINGS.items(), SCANS.items()):
        add(f"jpeg/{sampling}-{order}.jpg", jpeg(ycc(image), factors, **options), JPEG)
    for width, height in [(1, 1), (1, 30), (30, 1), (8, 8), (16, 16), (17, 9), (9, 17), (2, 3)]:
        for sampling, order in itertools.product(["444", "420", "440"], ["whole", "split"]):
            planes = ycc(scene(width, height))
            if width < 5 and sampling != "444":
                # libjpeg does not smooth colours of so few pixels.
                planes[1:] = [np.full_like(plane, plane.mean()) for plane in planes[1:]]
            data = jpeg(planes, SAMPLINGS[sampling], **SCANS[order])
            add(f"jpeg/{width}x{height}-{sampling}-{order}.jpg", data, JPEG)
    rgb = list(np.asarray(image).transpose(2, 0, 1))
    for order in ["whole", "split", "progressive-split"]:
        options = SCANS[order]
        add(f"jpeg/rgb-named-{order}.jpg", jpeg(rgb, SAMPLINGS["444"], ids=b"RGB", **options), JPEG)
        add(f"jpeg/rgb-adobe-{order}.jpg", jpeg(rgb, SAMPLINGS["444"], ids=(5, 6, 7), extra=ADOBE[0], **options), JPEG)
        add(f"jpeg/ycc-adobe-{order}.jpg", jpeg(ycc(image), SAMPLINGS["420"], extra=ADOBE[1], **options), JPEG)
        add(f"jpeg/ids-from-0-{order}.jpg", jpeg(ycc(image), SAMPLINGS["420"], ids=(0, 1, 2), **options), JPEG)
    add("jpeg/rgb-adobe-ids-1-2-3.jpg", jpeg(rgb, SAMPLINGS["444"], extra=ADOBE[0]), JPEG)
    inks = [255 - p for p in rgb] + [np.asarray(image.convert("L")) // 2 + 100]
    four = [([c], 0, 63) for c in range(4)]
    for name, planes, mark in [("cmyk", inks, ADOBE[0]), ("cmyk-plain", inks, b""),
                               ("ycck", ycc(image) + [inks[3]], ADOBE[2])]:
        for order, scans in [("whole", None), ("split", four)]:
            add(f"jpeg/{name}-{order}.jpg", jpeg(planes, [(1, 1)] * 4, scans=scans, extra=mark), JPEG)
    sampled = [(2, 2), (1, 1), (1, 1), (2, 2)]
    for order, scans in [("whole", None), ("split", four)]:
        data = jpeg(ycc(image) + [inks[3]], sampled, scans=scans, extra=ADOBE[2])
        add(f"jpeg/ycck-420-{order}.jpg", data, JPEG)
    grey = [np.asarray(image.convert("L"))]
    for factors in [(1, 1), (2, 2), (2, 1)]:
        add(f"jpeg/grey-{factors[0]}x{factors[1]}.jpg", jpeg(grey, [factors]), JPEG)
    add("jpeg/wide-divisors.jpg", jpeg(ycc(image), SAMPLINGS["420"], wide=True), JPEG)

    for quality, subsampling, progressive in itertools.product([20, 95], [0, 1, 2], [False, True]):
        options = dict(quality=quality, subsampling=subsampling, progressive=progressive)
        add(f"jpeg/pil-q{quality}-s{subsampling}-{'p' if progressive else 'b'}.jpg", saved(image, "JPEG", **options), JPEG)
    add("jpeg/pil-optimised.jpg", saved(image, "JPEG", optimize=True), JPEG)
    add("jpeg/pil-restart.jpg", saved(image, "JPEG", restart_marker_blocks=1), JPEG)
    add("jpeg/pil-restart-rows-progressive.jpg", saved(image, "JPEG", restart_marker_rows=1, progressive=True), JPEG)
    add("jpeg/pil-grey-progressive.jpg", saved(image.convert("L"), "JPEG", progressive=True), JPEG)
    add("jpeg/pil-cmyk.jpg", saved(image.convert("CMYK"), "JPEG"), JPEG)
    add("jpeg/pil-rgb.jpg", saved(image, "JPEG", keep_rgb=True), JPEG)
    add("jpeg/comment.jpg", saved(image, "JPEG", comment=b"a comment \xff\xd9 with a marker"), JPEG)
    add("jpeg/icc.jpg", saved(image, "JPEG", icc_profile=bytes(70000)[:300]), JPEG)
    small = saved(scene(16, 12), "JPEG")
    plain = saved(image, "JPEG", quality=80)
    with_thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + small) + segment(0xED, b"Photoshop 3.0\0" + small)
    add("jpeg/thumbnail.jpg", plain[:2] + with_thumbnail + plain[2:], JPEG)
    add("jpeg/fill-bytes.jpg", plain[:2] + b"\xff\xff\xff" + plain[2:], JPEG)
    add("jpeg/other-segments.jpg", plain[:2] + segment(0xEC, b"ducky") + segment(0xEF, b"x") + plain[2:], JPEG)
    add("jpeg/mpo.jpg", saved(image, "MPO", save_all=True, append_images=[scene(20, 20)]), JPEG)
    add("jpeg/trailing.jpg", plain + b"after the end" + bytes(50), JPEG)
    for orientation, order in itertools.product(range(1, 9), "<>"):
        data = saved(image, "JPEG", exif=b"Exif\0\0" + exif(orientation, order))
        add(f"jpeg/turned-{orientation}-{'II' if order == '<' else 'MM'}.jpg", data, JPEG)
    data = jpeg(ycc(image), SAMPLINGS["420"], scans=SPLIT, extra=segment(0xE1, b"Exif\0\0" + exif(6)))
    add("jpeg/turned-6-split.jpg", data, JPEG)
    broken = saved(image, "JPEG", exif=b"Exif\0\0" + exif(99))
    add("jpeg/turned-99.jpg", broken, JPEG)

    for order in ["whole", "split", "progressive", "progressive-split", "restart"]:
        good = jpeg(ycc(image), SAMPLINGS["420"], **SCANS[order])
        assert good.endswith(b"\xff\xd9")
        add(f"jpeg/no-end-{order}.jpg", good[:-2], JPEG, expected=good)
        add(f"jpeg/half-an-end-{order}.jpg", good[:-1], JPEG, expected=good)
        add(f"jpeg/no-end-zeros-{order}.jpg", good[:-2] + bytes(64), JPEG, expected=good)
        add(f"jpeg/cut-{order}.jpg", good[:-6], refused="cut off")
        add(f"jpeg/cut-half-{order}.jpg", good[:len(good) // 2 + 200], refused="cut off")
    good = saved(image, "JPEG", progressive=True)
    last = good.rfind(b"\xff\xda")
    add("jpeg/no-end-pil-progressive.jpg", good[:-2], JPEG, expected=good)
    add("jpeg/cut-last-scan.jpg", good[:last], refused="cut off")
    add("jpeg/cut-two-of-three.jpg", jpeg(ycc(image), SAMPLINGS["420"], scans=SPLIT[:2], end=b""), refused="cut off")
    add("jpeg/two-of-three.jpg", jpeg(ycc(image), SAMPLINGS["420"], scans=SPLIT[:2]), refused="JPEG")

    frame = plain.find(b"\xff\xc0")
    for marker, words in [(0xC9, "arithmetic"), (0xCA, "arithmetic"), (0xC3, "lossless"), (0xC5, "hierarchical")]:
        data = plain[:frame + 1] + bytes([marker]) + plain[frame + 2:]
        add(f"jpeg/frame-{marker:x}.jpg", data, refused=words)
    add("jpeg/12-bit.jpg", plain[:frame + 4] + b"\x0c" + plain[frame + 5:], refused="12 bits")
    between = [(4, 1), (2, 1), (1, 1)]
    add("jpeg/three-levels-whole.jpg", jpeg(ycc(image), between), JPEG)
    add("jpeg/three-levels-split.jpg", jpeg(ycc(image), between, scans=SPLIT), refused="4x1")


# PNG

def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, depth):
    """Rows [height, samples] as bytes."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in rows]
    out = []
    for row in rows:
        text = "".join(f"{int(value):0{depth}b}" for value in row)
        text += "0" * (-len(text) % 8)
        out.append(bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8)))
    return out


def filtered(rows, kind, size):
    """Rows of bytes behind their filter; `size` is bytes a pixel, at least 1."""
    out, above = b"", bytes(len(rows[0])) if rows else b""
    for number, row in enumerate(rows):
        how = number % 5 if kind == "all" else kind
        left, corner = bytes(size) + row, bytes(size) + above
        line = []
        for i, byte in enumerate(row):
            a, b, c = left[i], above[i], corner[i]
            p = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
            paeth = a if p[0] <= p[1] and p[0] <= p[2] else b if p[1] <= p[2] else c
            line.append((byte - [0, a, b, (a + b) // 2, paeth][how]) & 255)
        out, above = out + bytes([how]) + bytes(line), row
    return out


def png(samples, depth, colour, kind="all", interlaced=False, before=b"", parts=1, after=b"", end=True):
    """A PNG of `samples` [height, width, channels]."""
    height, width, channels = samples.shape
    size = max(channels * depth // 8, 1)
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            data += filtered(packed(part.reshape(part.shape[0], -1), depth), kind, size)
    data = zlib.compress(data)
    length = -(-len(data) // parts)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    out += before + b"".join(chunk(b"IDAT", data[i:i + length]) for i in range(0, len(data), length))
    return out + after + (chunk(b"IEND") if end else b"")


def pngs():
    image = scene(*SIDES)
    rgb = np.asarray(image)
    grey = np.asarray(image.convert("L"))[:, :, None]
    alpha = np.asarray(image.convert("L").rotate(180))[:, :, None]
    deep = lambda a: a.astype(np.uint16) * 257 - (a > 0) * 200 + (a == 0) * 100
    palette = bytes(np.asarray(scene(16, 16)).reshape(-1, 3)[:256].tobytes())
    kinds = {
        "rgb8": (rgb, 8, 2, EXACT), "rgba8": (np.concatenate([rgb, alpha], 2), 8, 6, EXACT),
        "grey8": (grey, 8, 0, EXACT), "la8": (np.concatenate([grey, alpha], 2), 8, 4, EXACT),
        "grey4": (grey >> 4, 4, 0, EXACT), "grey2": (grey >> 6, 2, 0, EXACT), "grey1": (grey >> 7, 1, 0, EXACT),
        "rgb16": (deep(rgb), 16, 2, ROUNDED), "rgba16": (deep(np.concatenate([rgb, alpha], 2)), 16, 6, ROUNDED),
        "la16": (deep(np.concatenate([grey, alpha], 2)), 16, 4, ROUNDED),
        "p8": (grey, 8, 3, EXACT), "p4": (grey >> 4, 4, 3, EXACT), "p2": (grey >> 6, 2, 3, EXACT), "p1": (grey >> 7, 1, 3, EXACT),
    }
    for name, (samples, depth, colour, tolerance) in kinds.items():
        before = chunk(b"PLTE", palette[:3 << min(depth, 8)]) if colour == 3 else b""
        for interlaced in (False, True):
            data = png(samples, depth, colour, interlaced=interlaced, before=before)
            add(f"png/{name}{'-interlaced' if interlaced else ''}.png", data, tolerance)
    # PIL keeps 16 bits of grey, and what it makes of them as RGB has changed: the high bytes are right.
    for interlaced in (False, True):
        data, high = (png(s, d, 0, interlaced=interlaced) for s, d in [(deep(grey), 16), (deep(grey) >> 8, 8)])
        add(f"png/grey16{'-interlaced' if interlaced else ''}.png", data, ROUNDED, expected=high)
    for kind in range(5):
        add(f"png/filter-{kind}.png", png(rgb, 8, 2, kind=kind))
    for width, height, interlaced in itertools.product([1, 2, 5], [1, 3, 9], [False, True]):
        data = png(np.asarray(scene(width, height)), 8, 2, interlaced=interlaced)
        add(f"png/{width}x{height}{'-interlaced' if interlaced else ''}.png", data)
    add("png/p8-clear.png", png(grey, 8, 3, before=chunk(b"PLTE", palette) + chunk(b"tRNS", bytes(range(0, 250, 10)))))
    add("png/p4-clear.png", png(grey >> 4, 4, 3, before=chunk(b"PLTE", palette[:48]) + chunk(b"tRNS", b"\0\xff\x80")))
    add("png/short-palette.png", png(grey >> 5, 8, 3, before=chunk(b"PLTE", palette[:24])))
    add("png/grey-clear.png", png(grey, 8, 0, before=chunk(b"tRNS", struct.pack(">H", int(grey[3, 3, 0])))))
    add("png/rgb-clear.png", png(rgb, 8, 2, before=chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[3, 3])))))
    add("png/grey1-clear.png", png(grey >> 7, 1, 0, before=chunk(b"tRNS", b"\0\0")))
    for parts in (2, 7, 400):
        add(f"png/{parts}-parts.png", png(rgb, 8, 2, parts=parts))
    add("png/empty-part.png", png(rgb, 8, 2, before=chunk(b"IDAT")))
    add("png/gamma.png", png(rgb, 8, 2, before=chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"sBIT", b"\5\6\5")))
    add("png/unknown-chunk.png", png(rgb, 8, 2, before=chunk(b"prVt", b"own"), after=chunk(b"tEXt", b"a\0b")))
    add("png/trailing.png", png(rgb, 8, 2) + b"after the end")
    add("png/animated.png", saved(image, "PNG", save_all=True, append_images=[image.rotate(180)], duration=100))
    add("png/icc.png", saved(image, "PNG", icc_profile=bytes(range(200))))
    add("png/level-0.png", saved(image, "PNG", compress_level=0))
    for orientation in range(1, 9):
        add(f"png/turned-{orientation}.png", png(rgb, 8, 2, before=chunk(b"eXIf", exif(orientation, "><"[orientation % 2]))))
    add("png/turned-6-behind.png", png(rgb, 8, 2, after=chunk(b"eXIf", exif(6))))
    add("png/turned-6-prefix.png", png(rgb, 8, 2, before=chunk(b"eXIf", b"Exif\0\0" + exif(6))))
    for parts in (1, 3):
        good = png(rgb, 8, 2, parts=parts)
        for name, data in [("no-end", good[:-12]), ("half-an-end", good[:-5]), ("no-check-sum", good[:-16]),
                           ("cut-check-sum", good[:-14]), ("no-end-text", good[:-12] + chunk(b"tEXt", b"a\0b")[:-7])]:
            add(f"png/{name}-{parts}.png", data, expected=good)
        add(f"png/cut-{parts}.png", good[:-60], refused="PNG")
        add(f"png/cut-half-{parts}.png", good[:len(good) // 2], refused="PNG")
    add("png/no-end-interlaced.png", png(rgb, 8, 2, interlaced=True, end=False), expected=png(rgb, 8, 2))
    add("png/no-pixels.png", png(rgb, 8, 2)[:33], refused="PNG")


# BMP

def bmp(width, height, bits, data, compression=0, palette=b"", masks=b"", header=40, size=None, gap=0, used=0, core=False):
    if core:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(data), 2835, 2835, used, 0)
        info += masks + bytes(max(header - 40 - len(masks), 0))
    start = 14 + len(info) + len(palette) + gap
    size = start + len(data) if size is None else size
    return b"BM" + struct.pack("<IHHI", size, 0, 0, start) + info + palette + bytes(gap) + data


def rows_of(samples, depth=8, top_down=False):
    lines = packed(samples.reshape(samples.shape[0], -1), depth)
    lines = lines if top_down else lines[::-1]
    return b"".join(line + bytes(-len(line) % 4) for line in lines)


def run_lengths(grey, four=False):
    out = b""
    for row in grey[::-1]:
        x, row = 0, row.tolist()
        while x < len(row):
            run = next((i for i in range(x, len(row)) if row[i] != row[x]), len(row)) - x
            if run == 1 and len(row) - x >= 4:
                literal = row[x:x + 4]
                body = bytes([literal[0] << 4 | literal[1], literal[2] << 4 | literal[3]]) if four else bytes(literal)
                out, x = out + bytes([0, 4]) + body, x + 4
            else:
                run = min(run, 255)
                out, x = out + bytes([run, row[x] * 17 if four else row[x]]), x + run
        out += b"\0\0"
    return out + b"\0\1"


def bmps():
    image = scene(*SIDES)
    rgb, (width, height) = np.asarray(image), image.size
    bgr = rgb[:, :, ::-1]
    grey = np.asarray(image.convert("L"))
    colours = lambda n: b"".join(bytes([*c[::-1], 0]) for c in np.asarray(scene(16, 16)).reshape(-1, 3)[:n].tolist())
    add("bmp/rgb24.bmp", bmp(width, height, 24, rows_of(bgr)))
    add("bmp/top-down.bmp", bmp(width, -height, 24, rows_of(bgr, top_down=True)))
    add("bmp/core.bmp", bmp(width, height, 24, rows_of(bgr), core=True))
    three = b"".join(colours(256)[i:i + 3] for i in range(0, 1024, 4))
    add("bmp/core-p8.bmp", bmp(width, height, 8, rows_of(grey), palette=three, core=True))
    for bits in (1, 4, 8):
        data = rows_of(grey >> (8 - bits), bits)
        add(f"bmp/p{bits}.bmp", bmp(width, height, bits, data, palette=colours(1 << bits)))
        add(f"bmp/p{bits}-top-down.bmp", bmp(width, -height, bits, rows_of(grey >> (8 - bits), bits, True), palette=colours(1 << bits)))
    add("bmp/p8-short.bmp", bmp(width, height, 8, rows_of(grey >> 4), palette=colours(16), used=16))
    add("bmp/rle8.bmp", bmp(width, height, 8, run_lengths(grey), 1, palette=colours(256)))
    add("bmp/rle4.bmp", bmp(width, height, 4, run_lengths(grey >> 4, True), 2, palette=colours(16)))
    red, green, blue = (rgb[:, :, i].astype(np.uint16) for i in range(3))
    five = (red >> 3) << 10 | (green >> 3) << 5 | blue >> 3
    six = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3
    words = lambda a, order: b"".join(r.astype(order).tobytes() + bytes(-2 * width % 4) for r in a[::-1])
    add("bmp/rgb16.bmp", bmp(width, height, 16, words(five, "<u2")), ROUNDED)
    add("bmp/fields-555.bmp", bmp(width, height, 16, words(five, "<u2"), 3, masks=struct.pack("<III", 0x7C00, 0x3E0, 0x1F)), ROUNDED)
    add("bmp/fields-565.bmp", bmp(width, height, 16, words(six, "<u2"), 3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)), ROUNDED)
    four = np.concatenate([bgr, np.full((height, width, 1), 200, np.uint8)], 2)
    add("bmp/rgb32.bmp", bmp(width, height, 32, rows_of(four)))
    add("bmp/fields-bgra.bmp", bmp(width, height, 32, rows_of(four), 3, masks=struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=108))
    add("bmp/fields-v5.bmp", bmp(width, height, 32, rows_of(four), 3, masks=struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=124))
    add("bmp/fields-bgrx.bmp", bmp(width, height, 32, rows_of(four), 3, masks=struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)))
    swapped = np.concatenate([rgb, four[:, :, 3:]], 2)
    add("bmp/fields-rgbx.bmp", bmp(width, height, 32, rows_of(swapped), 3, masks=struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)),
        expected=saved(image, "BMP"))  # PIL does not read this order
    add("bmp/header-64.bmp", bmp(width, height, 24, rows_of(bgr), header=64), refused="header type (size=64)")
    for header in (108, 124):
        add(f"bmp/header-{header}.bmp", bmp(width, height, 24, rows_of(bgr), header=header))
    for size in (0, 100, 10 ** 6):
        add(f"bmp/size-{size}.bmp", bmp(width, height, 24, rows_of(bgr), size=size))
    add("bmp/gap.bmp", bmp(width, height, 24, rows_of(bgr), gap=10))
    add("bmp/trailing.bmp", bmp(width, height, 24, rows_of(bgr)) + b"after the end")
    add("bmp/cut.bmp", bmp(width, height, 24, rows_of(bgr))[:-40], refused="BMP")
    for sides in [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3)]:
        small = np.asarray(scene(*sides))[:, :, ::-1]
        add(f"bmp/{sides[0]}x{sides[1]}.bmp", bmp(*sides, 24, rows_of(small)))
    add("bmp/pil-grey.bmp", saved(image.convert("L"), "BMP"))
    add("bmp/pil-1.bmp", saved(image.convert("1"), "BMP"))
    add("bmp/pil-rgba.bmp", saved(image.convert("RGBA"), "BMP"))


# GIF

def gifs():
    image = scene(*SIDES)
    for colours in (2, 3, 16, 200, 256):
        add(f"gif/{colours}-colours.gif", saved(image.quantize(colours), "GIF"))
        add(f"gif/{colours}-colours-in-order.gif", saved(image.quantize(colours), "GIF", interlace=0))
    add("gif/grey.gif", saved(image.convert("L"), "GIF"))
    add("gif/1.gif", saved(image.convert("1"), "GIF"))
    for sides in [(1, 1), (1, 20), (20, 1), (3, 3)]:
        add(f"gif/{sides[0]}x{sides[1]}.gif", saved(scene(*sides).quantize(8), "GIF"))
    quantised = image.quantize(16)
    add("gif/clear.gif", saved(quantised, "GIF", transparency=3))
    add("gif/clear-background.gif", saved(quantised, "GIF", transparency=3, background=5))
    add("gif/comment.gif", saved(quantised, "GIF", comment=b"a comment"))
    frames = [image.rotate(angle).quantize(16) for angle in (90, 180)]
    for disposal in range(4):
        options = dict(save_all=True, append_images=frames, duration=100, disposal=disposal, loop=0)
        add(f"gif/animated-{disposal}.gif", saved(quantised, "GIF", **options))
    plain = saved(quantised, "GIF")
    add("gif/no-trailer.gif", plain[:-1])
    add("gif/trailing.gif", plain + b"after the end")
    add("gif/87a.gif", b"GIF87a" + plain[6:])
    # Where the first frame is smaller than the canvas, the rest is black here and of colour 0 in PIL:
    # neither is in the file, so there is none of the kind.
    descriptor = plain.index(b"\x2c" + struct.pack("<HHHH", 0, 0, *SIDES))
    table = plain[13:13 + 48]
    local = plain[:10] + b"\0\0\0" + plain[13 + 48:descriptor] + plain[descriptor:descriptor + 9] + \
        bytes([plain[descriptor + 9] | 0x83]) + table + plain[descriptor + 10:]
    add("gif/local-colours.gif", local)
    add("gif/cut.gif", plain[:len(plain) // 2], refused="GIF")


# WebP

def webps():
    image = scene(*SIDES)
    alpha = image.copy()
    alpha.putalpha(image.convert("L").rotate(180))
    for quality, method in itertools.product([5, 60, 100], [0, 4, 6]):
        add(f"webp/q{quality}-m{method}.webp", saved(image, "WEBP", quality=quality, method=method), WEBP)
    for quality in (0, 50, 100):
        add(f"webp/lossless-{quality}.webp", saved(image, "WEBP", lossless=True, quality=quality))
    add("webp/lossless-alpha.webp", saved(alpha, "WEBP", lossless=True, exact=True))
    add("webp/alpha.webp", saved(alpha, "WEBP", quality=80, exact=True), WEBP)
    add("webp/alpha-rough.webp", saved(alpha, "WEBP", quality=80, alpha_quality=10, exact=True), WEBP)
    add("webp/few-colours.webp", saved(image.quantize(4).convert("RGB"), "WEBP", lossless=True))
    add("webp/grey.webp", saved(image.convert("L"), "WEBP", lossless=True))
    for width, height in [(1, 1), (1, 30), (30, 1), (16, 16), (17, 17), (2, 3)]:
        add(f"webp/{width}x{height}.webp", saved(scene(width, height), "WEBP", quality=80), WEBP)
        add(f"webp/{width}x{height}-lossless.webp", saved(scene(width, height), "WEBP", lossless=True))
    for lossless in (True, False):
        options = dict(save_all=True, append_images=[image.rotate(180)], duration=100, lossless=lossless)
        add(f"webp/animated-{'lossless' if lossless else 'lossy'}.webp", saved(image, "WEBP", **options), EXACT if lossless else WEBP)
    for orientation, prefix in itertools.product(range(1, 9), (b"", b"Exif\0\0")):
        data = saved(image, "WEBP", lossless=True, exif=prefix + exif(orientation, "<>"[orientation % 2]))
        add(f"webp/turned-{orientation}{'-prefix' if prefix else ''}.webp", data)
    add("webp/icc.webp", saved(image, "WEBP", lossless=True, icc_profile=bytes(range(200))))
    add("webp/xmp.webp", saved(image, "WEBP", lossless=True, xmp=b"<x/>"))
    plain = saved(image, "WEBP", lossless=True)
    add("webp/trailing.webp", plain + b"after the end")
    add("webp/cut.webp", plain[:-40], refused="WebP")


def bundle():
    """The whole set: a line of JSON that says where things are, and behind it the bytes."""
    blob, places, images = b"", {}, []

    def place(data):
        nonlocal blob
        if data not in places:
            places[data] = [len(blob), len(data)]
            blob += data
        return places[data]

    for name, entry in ALL.items():
        image = {"name": name, "file": place(entry["file"])}
        if "refused" in entry:
            image["refused"] = entry["refused"]
        else:
            array = entry["pixels"]
            image.update(width=array.shape[1], height=array.shape[0], pixels=place(array.tobytes()),
                         most=entry["most"], mean=entry["mean"])
        images.append(image)
    return gzip.compress(json.dumps(images).encode() + b"\n" + blob, 9, mtime=0)


def main():
    for make in (jpegs, pngs, bmps, gifs, webps):
        make()
    data = bundle()
    print(f"{len(ALL)} files, {sum(len(entry['file']) for entry in ALL.values())} bytes; {len(data)} in one")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "odd.json.gz"
        path.write_bytes(data)
        command = ["cargo", "test", "--test", "pictures", "odd_images", "--", "--nocapture"]
        result = subprocess.run(command, cwd=ROOT.parent, env={**os.environ, "CONVZOO_ODD_IMAGES": str(path)})
    if "--record" in sys.argv[1:]:
        RECORDED.parent.mkdir(exist_ok=True)
        RECORDED.write_bytes(data)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()

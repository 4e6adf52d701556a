"""Files that try to end a run or to take all memory: images, tars and parquet files, small and made up."""

import gzip
import io
import struct
import tarfile
import zlib

from photos import picture


def image_bytes(seed, suffix="png"):
    file = io.BytesIO()
    picture(seed).save(file, suffix)
    return file.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    """A PNG file of a hundred bytes that claims to be huge."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b"")


def png_with_chunk(kind, data):
    """A sound PNG with one more chunk before its pixels."""
    png = image_bytes(0)
    return png[:33] + png_chunk(kind, data) + png[33:]


def truncated(data):
    return data[: len(data) // 2]


def hostile_images():
    """Names, and images of which each is broken for another reason than the others."""
    text = zlib.compress(bytes(80 << 20), 9)  # 80 MB in 80 KB
    return {
        "bomb of 13,000 px.png": png_bomb(13_000, 13_000),
        "bomb of 50,000 px.png": png_bomb(50_000, 50_000),
        "zeros.png": png_bomb(3_000, 3_000),  # allowed, but there are pixels for a few rows only
        "text.png": png_with_chunk(b"zTXt", b"Comment\0\0" + text),
        "profile.png": png_with_chunk(b"iCCP", b"icc\0\0" + text),
        "long chunk.png": image_bytes(0)[:33] + b"\x7f\xff\xff\xff" + b"IDAT",
        "truncated.jpg": truncated(image_bytes(1, "jpeg")),
        "truncated.png": truncated(image_bytes(1)),
        "nothing.png": b"",
        "archive.png": gzip.compress(bytes(1000)),
        "size.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0",
        "strip.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 66, 0, 0, 54, 40, 1 << 20, 1, 1, 24, 0, 12, 1, 1, 0, 0),
    }


# ---- tars ----


def tar_bytes(*members, format=tarfile.PAX_FORMAT):
    """A tar of members: pairs (name, data), or triples with attributes of their `TarInfo`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data, *others in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for attribute, value in (others[0] if others else {}).items():
                setattr(member, attribute, value)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def sparse(name, size):
    """A member of nothing but a hole."""
    facts = {"major": "1", "minor": "0", "name": name, "realsize": str(size)}
    return name, b"0\n".ljust(512, b"\0"), {"pax_headers": {f"GNU.sparse.{key}": text for key, text in facts.items()}}


def raw_header(name, size, kind):
    """A header that claims what it likes, a negative size, too."""
    member = tarfile.TarInfo(name)
    member.type = kind
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)

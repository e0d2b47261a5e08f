"""Says inside of a picture where it comes from, without touching its pixels.

The metadata are one XMP packet, which viewers, `exiftool` and Pillow read alike. It is inserted between
the parts of the file; nothing is decoded or encoded. A file that is odd, has a packet already, or is signed
is refused, never mended.
"""

from runner.provenance.files import NotEmbeddable, can_hold, write_with_packet
from runner.provenance.packet import xmp_packet

__all__ = ["NotEmbeddable", "can_hold", "write_with_packet", "xmp_packet"]

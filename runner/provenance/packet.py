"""The XMP packet: prompt, model, parameters and request id, the same bytes for the same job."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

NAMESPACE = "urn:segmind-runner:provenance:1#"
# A picture that was sent along as text is no parameter that anybody reads.
LONGEST_VALUE = 4096
# What XML 1.0 cannot hold in any spelling.
_IMPOSSIBLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xmp_packet(model: str, params: Mapping[str, Any], request_id: str | None) -> bytes:
    """The packet as UTF-8. The prompt is `dc:description`; all parameters stand as JSON."""
    own = {
        "model": model,
        "requestId": request_id or "",
        "parameters": json.dumps(_short(params), sort_keys=True),
    }
    elements = "".join(
        f"<runner:{name}>{_xml(value)}</runner:{name}>" for name, value in own.items()
    )
    prompt = params.get("prompt")
    if isinstance(prompt, str):
        elements += (
            '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
            f"{_xml(prompt)}</rdf:li></rdf:Alt></dc:description>"
        )
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' xmlns:runner="{NAMESPACE}">'
        f"<xmp:CreatorTool>Segmind {_xml(model)}</xmp:CreatorTool>{elements}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
    return packet.encode()


def _xml(text: str) -> str:
    return escape(_IMPOSSIBLE.sub("\ufffd", text))


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{value[:40]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    return value

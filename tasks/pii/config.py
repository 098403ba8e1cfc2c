"""The config section `pii`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.stage import StageConfig

Region = Annotated[str, Field(pattern="^[A-Z]{2}$")]


class PiiConfig(StageConfig):
    """What is replaced, and by what. FineWeb (Penedo et al. 2024) replaces e-mail and public IP addresses."""

    kinds: list[Literal["email", "ip", "phone"]] = Field(
        ["email", "ip", "phone"], title="Kinds", description="What is looked for; [] changes nothing"
    )
    email: str = Field(
        "email@example.com", title="For e-mail addresses", description="The text put in place of an e-mail address"
    )
    ipv4: str = Field(
        "192.0.2.1", title="For IPv4 addresses", description="The text put in place of an IPv4 address (RFC 5737)"
    )
    ipv6: str = Field(
        "2001:db8::1", title="For IPv6 addresses", description="The text put in place of an IPv6 address (RFC 3849)"
    )
    phone: str = Field(
        "+1-202-555-0100",
        title="For telephone numbers",
        description="The text put in place of a telephone number; 555-01xx is kept free for fiction",
    )
    private_ip: bool = Field(
        False,
        title="Private IP addresses too",
        description="Also replace addresses of private, loopback and link-local ranges; reserved and documentation "
        "ranges are always left",
    )
    phone_regions: list[Region] = Field(
        [],
        title="Telephone regions",
        description="Countries (DE, US, …) whose national formats are looked for in every document; empty: those that "
        "write the document's language. International numbers (+…) are always looked for",
    )

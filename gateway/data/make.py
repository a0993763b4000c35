#!/usr/bin/env python3
"""Makes zones.tsv and countries.tsv from Debian's tzdata (public domain).

    apt-get install tzdata && python3 make.py [/usr/share/zoneinfo]

zones.tsv: where a browser with this IANA time zone probably is. zone1970.tab and zone.tab give the
position of each zone's principal place; links of tzdata.zi give old names (Asia/Calcutta), which
browsers still report, the place of their target. Zones without a place (Etc/UTC) are left out.

countries.tsv: the mean on the sphere of the places that zone.tab lists for a country. That is
neither the centre of its area nor of its people, but lies between its inhabited parts, comes from
data anyone may use, and is near enough to choose among regions thousands of kilometres apart.
"""

import math
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent

# Codes that geography sets use and ISO 3166-1 leaves to its users: Kosovo, at Pristina.
USER_ASSIGNED = {"XK": [(42.6667, 21.1667)]}


def degrees(text):
    """ISO 6709 +-DDMM[SS] or +-DDDMM[SS] to degrees."""
    sign = -1 if text[0] == "-" else 1
    digits = text[1:]
    head = 2 if len(digits) in (4, 6) else 3
    minutes, seconds = digits[head : head + 2], digits[head + 2 :] or "0"
    return sign * (int(digits[:head]) + int(minutes) / 60 + int(seconds) / 3600)


def rows(path):
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            codes, place, zone = line.split("\t")[:3]
            latitude, longitude = re.fullmatch(r"([+-]\d+)([+-]\d+)", place).groups()
            yield codes.split(","), zone, (degrees(latitude), degrees(longitude))


def mean(places):
    x = y = z = 0.0
    for latitude, longitude in places:
        lat, lon = math.radians(latitude), math.radians(longitude)
        x += math.cos(lat) * math.cos(lon)
        y += math.cos(lat) * math.sin(lon)
        z += math.sin(lat)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def write(name, header, table):
    lines = ["# " + line for line in header]
    lines += [f"{key}\t{table[key][0]:.2f}\t{table[key][1]:.2f}" for key in sorted(table)]
    (HERE / name).write_text("\n".join(lines) + "\n")


def main(root):
    rules = (root / "tzdata.zi").read_text().splitlines()
    version = rules[0].removeprefix("# version ")
    zones, countries = {}, dict(USER_ASSIGNED)
    for _, zone, place in rows(root / "zone1970.tab"):
        zones[zone] = place
    for codes, zone, place in rows(root / "zone.tab"):
        zones[zone] = place
        countries.setdefault(codes[0], []).append(place)
    links = [line.split()[1:3] for line in rules if line.startswith("L ")]
    for _ in range(3):  # A link may point to a link.
        for target, name in links:
            if target in zones:
                zones.setdefault(name, zones[target])
    made = f"Made by make.py from tzdata {version} (public domain). name, latitude, longitude."
    write("zones.tsv", [made], zones)
    how = "A country's position is the mean on the sphere of the places zone.tab lists for it."
    table = {code: mean(places) for code, places in countries.items()}
    write("countries.tsv", [made, how], table)


main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/zoneinfo"))

"""Shows what the job has loaded: of each station how many readings there are, and their mean."""

import sqlite3
import sys
from contextlib import closing

with closing(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)) as database:
    for station, readings, celsius in database.execute(
        "select station, count(*), round(avg(celsius), 2) from readings group by station order by station"
    ):
        print(f"{station:8}{readings:3}{celsius:6.2f}")

"""A small pipeline as laboratories run it: made, populated, or its tables printed.

pipeline.py write|extend|show PORT
"""
import hashlib

import numpy as np

from lab import ARRAY, dj, rows, schema, what

schema = schema("lab_ephys", what == "write")


@schema
class Mouse(dj.Manual):
    definition = """
    mouse_id : int   # unique
    ---
    dob      : date
    sex = 'U': enum('M', 'F', 'U')
    note = "" : varchar(200)
    """


@schema
class Recording(dj.Manual):
    definition = f"""
    -> Mouse
    session : smallint
    ---
    trace   : {ARRAY}  # volts
    """


@schema
class Filter(dj.Lookup):
    definition = """
    filter_id : tinyint
    ---
    width     : int
    """
    contents = [(1, 3), (2, 9)]


@schema
class Spikes(dj.Computed):
    definition = f"""
    -> Recording
    -> Filter
    ---
    smooth   : {ARRAY}
    n_peaks  : int
    """

    class Peak(dj.Part):
        definition = """
        -> master
        peak : int
        ---
        height : double
        """

    def make(self, key):
        trace = (Recording & key).fetch1("trace")
        width = (Filter & key).fetch1("width")
        smooth = np.convolve(trace, np.ones(width) / width, mode="same")
        peaks = np.flatnonzero((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] > smooth[2:])) + 1
        self.insert1(dict(key, smooth=smooth, n_peaks=len(peaks)))
        self.Peak.insert(
            dict(key, peak=index, height=smooth[at]) for index, at in enumerate(peaks[:50])
        )


def add(mice):
    for mouse in mice:
        random = np.random.default_rng(mouse)
        Mouse.insert1((mouse, "2026-01-0%d" % (1 + mouse % 9), "MFU"[mouse % 3], "souris \u00e9 %d" % mouse))
        for session in (1, 2):
            Recording.insert1((mouse, session, random.normal(size=20000)))
    Spikes.populate()


def show():
    for table in (Mouse, Recording, Filter, Spikes, Spikes.Peak):
        for row in rows(table()):
            for name, value in row.items():
                if isinstance(value, np.ndarray):
                    row[name] = (str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest())
            print(table.__name__, row)


if what == "write":
    add(range(1, 4))
elif what == "extend":
    add(range(4, 6))
show()

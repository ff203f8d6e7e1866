"""A mouse deleted as DataJoint does it, with all that hangs on it: delete.py MOUSE PORT."""
from lab import IS_NEW, dj, what

ephys = dj.VirtualModule("ephys", "lab_ephys" + ("_2" if IS_NEW else ""))
(ephys.Mouse & {"mouse_id": int(what)}).delete()

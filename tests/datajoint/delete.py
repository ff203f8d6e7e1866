"""A mouse deleted as DataJoint does it, with all that hangs on it: delete.py MOUSE PORT."""
import sys

import datajoint as dj

dj.config["database.host"] = "127.0.0.1"
dj.config["database.port"] = int(sys.argv[2])
dj.config["database.user"] = "lab"
dj.config["database.password"] = "lab at work"
dj.config["database.use_tls"] = False
dj.config["safemode"] = False
dj.config["loglevel"] = "WARNING"
dj.logger.setLevel("WARNING")

ephys = dj.VirtualModule("ephys", "lab_ephys")
(ephys.Mouse & {"mouse_id": int(sys.argv[1])}).delete()

"""From a room's encoded frames to the ladder of files that spectators fetch. One process a room.

Knows nothing of the database or of leases: a supervisor starts ``workers.transcode.child`` and watches it.
"""

import os

# Sums of 1,600 samples are not worth a pool of threads, and each room would have its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

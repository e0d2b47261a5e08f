"""All SQL of the ledger, each statement named for what it does.

A transition names the state it leaves in its WHERE clause: a statement that changes no row has lost a
race, and nothing of what belongs to it is written.
"""

# The intent to send a job. Cost and error of an earlier attempt stay in its history.
BEGIN_SUBMIT = """
UPDATE jobs SET state = 'submitting', posts = posts + 1, submitted_at = :at, deadline = :deadline,
  server_at = :server_at, server_until = NULL, request_id = NULL, error = NULL
WHERE job_key = :job AND state = 'pending'"""

# The API took the job.
ACCEPT = """
UPDATE jobs SET state = 'submitted', request_id = :request_id, error = NULL,
  deadline = coalesce(:deadline, deadline), server_at = coalesce(server_at, :server_at)
WHERE job_key = :job AND state = 'submitting'"""

# No answer came: by `server_until` the API had taken the job, if it ever did.
DOUBT = """
UPDATE jobs SET state = 'in_doubt', error = :error, server_at = coalesce(server_at, :server_at),
  server_until = :server_until
WHERE job_key = :job AND state = 'submitting'"""

# The server's time was heard only after a job came into doubt.
DATE_DOUBT = """
UPDATE jobs SET server_at = :server_at, server_until = :server_until
WHERE job_key = :job AND state = 'in_doubt'"""

# Why the history does not settle a doubt; said again only where it is another reason.
HOLD = """
UPDATE jobs SET error = :error
WHERE job_key = :job AND state = 'in_doubt' AND error IS NOT :error"""

# The history says that a job in doubt was taken, and when: its hour runs from there.
FIND = """
UPDATE jobs SET state = 'submitted', request_id = :request_id, submitted_at = :submitted_at,
  deadline = :deadline, server_at = :server_at, server_until = NULL, error = NULL
WHERE job_key = :job AND state = 'in_doubt'"""

# The history shows that a job in doubt was never taken, or somebody chose to send it anyway.
REQUEUE = """
UPDATE jobs SET state = 'pending', not_before = 0, request_id = NULL, submitted_at = NULL, deadline = NULL,
  server_at = NULL, server_until = NULL, error = NULL, requeues = requeues + 1
WHERE job_key = :job AND state = :before"""

# The job was refused or never left: back to the queue. `posts` is set right where nothing was sent.
POSTPONE = """
UPDATE jobs SET state = 'pending', not_before = :not_before, refusals = refusals + :refused,
  posts = posts - :unsent, submitted_at = NULL, deadline = NULL, server_at = NULL, error = :error
WHERE job_key = :job AND state = 'submitting'"""

# The job ends short of saved, or its fate is not known.
END = """
UPDATE jobs SET state = :after, error = :error, request_id = coalesce(:request_id, request_id),
  cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END
WHERE job_key = :job AND state = :before"""

# The result is there; what the job cost is added to what earlier attempts cost.
COMPLETE = """
UPDATE jobs SET state = 'completed', completed_at = :at, error = NULL,
  request_id = coalesce(:request_id, request_id),
  cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END
WHERE job_key = :job AND state = :before"""

PUT_RESULT = "INSERT OR REPLACE INTO results (job_key, body) VALUES (:job, :body)"

# Every file is on disk and checked.
SAVE = """
UPDATE jobs SET state = 'saved', error = NULL, files = coalesce(:files, files)
WHERE job_key = :job AND state = :before"""

DROP_FILES = "DELETE FROM files WHERE job_key = :job"

PUT_FILE = """
INSERT INTO files (job_key, n, url, path, size_bytes, sha256, content_type, received_sha256)
VALUES (:job, :n, :url, :path, :size_bytes, :sha256, :content_type, :received_sha256)"""

# Jobs whose request was another and whose file is the same to the last byte. Texts may well be equal.
# Bounded, for thousands of repeats of one request may rightly give one file.
_TWINS = """
FROM (
  SELECT coalesce(f.received_sha256, f.sha256) AS sha256, f.job_key AS own_key, g.job_key FROM files f
  JOIN files g ON coalesce(g.received_sha256, g.sha256) = coalesce(f.received_sha256, f.sha256)
    AND g.job_key <> f.job_key
  WHERE f.job_key = :job AND f.content_type NOT IN ('text/plain', 'application/json') LIMIT 200
) JOIN jobs o USING (job_key) JOIN jobs j ON j.job_key = own_key
WHERE o.params <> j.params OR o.model <> j.model"""

SAME_FILES = f"SELECT sha256, 1 + count(DISTINCT o.model || o.params) {_TWINS} GROUP BY sha256"

FLAG_SAME_FILES = f"""
INSERT INTO attempts (job_key, at, action, detail)
SELECT :job, :at, 'flagged', 'the file of another request, job ' || o.id || ': perhaps a placeholder'
{_TWINS} LIMIT 1"""

# A saved file is gone from the disk and is to be fetched again.
REOPEN = (
    "UPDATE jobs SET state = 'completed', error = :error WHERE job_key = :job AND state = 'saved'"
)

# Why a completed job is not saved yet.
EXPLAIN = "UPDATE jobs SET error = :error WHERE job_key = :job AND state = 'completed'"

RECORD_ATTEMPT = """
INSERT INTO attempts (job_key, at, action, status, detail, request_id)
VALUES (:job, :at, :action, :status, :detail, :request_id)"""

# Start of a run: whatever was being sent when the last run died is in doubt.
DOUBT_INTERRUPTED_HISTORY = """
INSERT INTO attempts (job_key, at, action, detail)
SELECT job_key, :at, 'in_doubt', :detail FROM jobs INDEXED BY jobs_submitting
WHERE state = 'submitting'"""
# That such a job is sent again says nothing of the API: it makes up for one time that does.
DOUBT_INTERRUPTED = """
UPDATE jobs SET state = 'in_doubt', error = :detail, requeues = requeues - 1
WHERE state = 'submitting'"""

# Start of a run: our clock may have been set since a job in flight was sent. Its hour is told by the
# clock of now.
RETIME = """
UPDATE jobs SET submitted_at = server_at - :ahead_s,
  deadline = deadline + (server_at - :ahead_s - submitted_at)
WHERE state = 'submitted' AND abs(server_at - :ahead_s - submitted_at) > :tolerance_s"""

# And what was put off until a time of an earlier clock may go at once.
FORGET_PUT_OFF = "UPDATE jobs SET not_before = 0 WHERE state = 'pending' AND not_before > 0"

# A model is closed: none of its waiting jobs is sent.
STOP_MODEL_HISTORY = """
INSERT INTO attempts (job_key, at, action, detail)
SELECT job_key, :at, 'failed', :reason FROM jobs WHERE state = 'pending' AND model = :model AND wanted = 1
  AND manifest_key IN ({manifests})"""
STOP_MODEL = """
UPDATE jobs SET state = 'failed', error = :reason
WHERE state = 'pending' AND model = :model AND wanted = 1 AND manifest_key IN ({manifests})"""

# `runner retry`: a new attempt, whose refusals are counted anew.
RETRY_HISTORY = """
INSERT INTO attempts (job_key, at, action, detail, request_id)
SELECT job_key, :at, 'retry', 'was ' || state || coalesce(': ' || error, ''), request_id
FROM jobs WHERE {condition}"""
RETRY = """
UPDATE jobs SET state = 'pending', not_before = 0, refusals = 0, requeues = 0, retries = retries + 1,
  request_id = NULL, submitted_at = NULL, deadline = NULL, server_at = NULL, server_until = NULL,
  completed_at = NULL, error = NULL
WHERE {condition}"""

_WORK_COLUMNS = """
j.job_key, j.id, m.name, j.model, j.params, j.output, j.state, j.posts, j.refusals, j.request_id,
j.submitted_at, j.deadline, j.place, j.repeat, j.requeues, j.server_at, j.server_until, j.inputs, m.path"""

# The next jobs to send, in the order of their manifest.
NEXT_PENDING = f"""
SELECT {_WORK_COLUMNS} FROM jobs j JOIN manifests m USING (manifest_key)
WHERE j.state = 'pending' AND j.manifest_key = :manifest AND j.job_key > :after
  AND j.wanted = 1 AND j.not_before <= :now
ORDER BY j.job_key LIMIT :limit"""

# When the first of the jobs that were put off may be sent.
NEXT_POSTPONED = """
SELECT min(not_before) FROM jobs
WHERE state = 'pending' AND manifest_key = :manifest AND wanted = 1 AND not_before > :now"""

# How many jobs are still to be sent.
COUNT_PENDING = """
SELECT count(*) FROM jobs WHERE state = 'pending' AND manifest_key = :manifest AND wanted = 1"""

# Everything the API is working on, whichever manifest wants it, the first to be forgotten first.
SUBMITTED = f"""
SELECT {_WORK_COLUMNS} FROM jobs j JOIN manifests m USING (manifest_key)
WHERE j.state = 'submitted' ORDER BY j.deadline"""

# Jobs whose POST may have been accepted.
IN_DOUBT = f"""
SELECT {_WORK_COLUMNS} FROM jobs j JOIN manifests m USING (manifest_key)
WHERE j.state = 'in_doubt' ORDER BY j.job_key"""

# Jobs whose hour has passed, while the file that they made may still be there.
RECOVERABLE = f"""
SELECT {_WORK_COLUMNS} FROM jobs j INDEXED BY jobs_expired JOIN manifests m USING (manifest_key)
WHERE j.state = 'expired' AND j.request_id IS NOT NULL AND j.completed_at IS NULL
  AND coalesce(j.server_at, j.submitted_at + :leeway_s) > :since
ORDER BY j.submitted_at"""

# What is being sent right now: its row may be in the history before its id is in the ledger.
SUBMITTING_BODIES = "SELECT model, params FROM jobs WHERE state = 'submitting'"

# Own requests around a time of the server's, which a history that can be relied on must show.
WITNESSES = """
SELECT request_id FROM jobs WHERE request_id IS NOT NULL AND model = :model
  AND server_at BETWEEN :since AND :until
ORDER BY abs(server_at - :at) LIMIT :limit"""

# Whether an id belongs to a job, now or by an earlier attempt.
IS_KNOWN = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE request_id = :request_id)
  OR EXISTS (SELECT 1 FROM attempts WHERE request_id = :request_id)"""

COMPLETED_KEYS = """
SELECT job_key FROM jobs WHERE state = 'completed' AND job_key > :after ORDER BY job_key LIMIT :limit"""

ONE_JOB = f"SELECT {_WORK_COLUMNS} FROM jobs j JOIN manifests m USING (manifest_key) WHERE j.job_key = :job"

# A job whose files are to be fetched, with its result.
COMPLETED = f"""
SELECT {_WORK_COLUMNS}, r.body FROM jobs j JOIN manifests m USING (manifest_key)
JOIN results r ON r.job_key = j.job_key WHERE j.job_key = :job AND j.state = 'completed'"""

FILES = """
SELECT n, url, path, size_bytes, sha256, content_type, received_sha256 FROM files
WHERE job_key = :job ORDER BY n"""

# Files of saved jobs, to be looked for on disk; and of expired ones, which may have come back. The plus
# signs keep it walking along the keys: through any other index each page would sort all jobs.
RECORDED_FILES = """
SELECT j.job_key, j.id, m.name, j.model, j.state, f.n, f.path, f.size_bytes
FROM jobs j JOIN manifests m USING (manifest_key) JOIN files f USING (job_key)
WHERE j.job_key >= :job AND +j.manifest_key = :manifest AND +j.wanted = 1
  AND +j.state IN ('saved', 'expired') AND (j.job_key, f.n) > (:job, :n)
ORDER BY j.job_key, f.n LIMIT :limit"""

# Whether a file name is taken by another job.
OWNER_OF_PATH = "SELECT job_key FROM files WHERE path = :path AND job_key <> :job LIMIT 1"

NEXT_ATTEMPTS = """
SELECT attempt_key, at FROM attempts WHERE attempt_key > :after ORDER BY attempt_key LIMIT :limit"""

# What the rows of saved jobs tell as well. An id stays where the job has another one by now.
COMPACT = """
DELETE FROM attempts WHERE attempt_key > :after AND attempt_key <= :last AND detail IS NULL
  AND action IN ('submitting', 'submitted', 'completed')
  AND EXISTS (SELECT 1 FROM jobs j WHERE j.job_key = attempts.job_key AND j.state = 'saved' AND j.posts = 1
    AND (attempts.request_id IS NULL OR attempts.request_id = j.request_id))"""

FIND_MANIFEST = (
    "SELECT manifest_key, fingerprint, output_directory FROM manifests WHERE name = :name"
)

PUT_MANIFEST = """
INSERT INTO manifests (name, path, output_directory, fingerprint, planned_at)
VALUES (:name, :path, :output_directory, :fingerprint, :at)
ON CONFLICT (name) DO UPDATE SET path = excluded.path, output_directory = excluded.output_directory,
  fingerprint = excluded.fingerprint, planned_at = excluded.planned_at"""

GET_FACT = "SELECT value FROM facts WHERE name = :name"
PUT_FACT = "INSERT OR REPLACE INTO facts (name, value) VALUES (:name, :value)"

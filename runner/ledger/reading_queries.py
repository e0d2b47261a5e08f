"""The SQL of reading: what people, listings and reports ask the ledger."""

COUNTS = """
SELECT m.name, c.wanted, c.state, sum(c.jobs), sum(c.nanodollars) / 1e9
FROM job_counters c JOIN manifests m USING (manifest_key)
GROUP BY c.manifest_key, c.wanted, c.state HAVING sum(c.jobs) > 0 ORDER BY c.manifest_key"""

NEXT_DEADLINE = "SELECT min(deadline) FROM jobs WHERE state = 'submitted'"

CAUSES = """
SELECT state, coalesce(error, ''), count(*) FROM jobs
WHERE wanted = 1 AND manifest_key IN ({manifests})
  AND state IN ('failed', 'blocked', 'invalid', 'expired', 'in_doubt', 'completed')
GROUP BY state, error ORDER BY count(*) DESC, state LIMIT :limit"""

SAVED_FILES = """
SELECT m.name, sum(c.files) FROM job_counters c JOIN manifests m USING (manifest_key)
WHERE c.wanted = 1 AND c.state = 'saved' GROUP BY c.manifest_key HAVING sum(c.files) > 0"""

# What finished jobs of a model cost and took.
MODEL_HISTORY = """
SELECT model, jobs, nanodollars / 1e9 / nullif(priced, 0), milliseconds / 1e3 / jobs, highest_cost
FROM model_history"""

# How long the latest jobs took; read from the end of an index, however long the ledger is.
RECENT_LATENCIES = """
SELECT model, completed_at - submitted_at FROM jobs INDEXED BY jobs_by_time
WHERE request_id IS NOT NULL AND completed_at >= submitted_at ORDER BY submitted_at DESC LIMIT :limit"""

# What waits to be sent.
PENDING_BY_MODEL = """
SELECT model, count(*) FROM jobs
WHERE state = 'pending' AND wanted = 1 AND manifest_key IN ({manifests}) GROUP BY model"""

_LISTED_COLUMNS = """
j.job_key, j.id, m.name, j.model, j.state, j.params, j.tags, j.meta, j.request_id, j.posts,
j.submitted_at, j.completed_at, j.cost, j.error, j.source, j.place, j.repeat, j.deadline, j.inputs"""

# One page of jobs with everything a listing shows. It walks along the keys: through an index each page
# would sort all jobs that are still to come.
LIST_JOBS = f"""
SELECT {_LISTED_COLUMNS} FROM jobs j NOT INDEXED JOIN manifests m USING (manifest_key)
WHERE j.job_key > :after AND {{condition}} ORDER BY j.job_key LIMIT :limit"""

# One job with everything a listing shows.
LIST_ONE = f"""
SELECT {_LISTED_COLUMNS} FROM manifests m JOIN jobs j USING (manifest_key)
WHERE m.name = :manifest AND j.id = :id"""

# What came to nothing in a run, where the run tells only of some that they did.
ENDED_SHORT_SINCE = """
SELECT j.id FROM jobs j
WHERE j.manifest_key = (SELECT manifest_key FROM manifests WHERE name = :manifest) AND j.wanted = 1
  AND j.state IN ('failed', 'blocked', 'invalid', 'expired', 'in_doubt')
  AND EXISTS (SELECT 1 FROM attempts a
    WHERE a.job_key = j.job_key AND a.action = j.state AND a.at >= :since)
ORDER BY j.job_key"""

OUTPUT_FOLDERS = "SELECT name, output_directory FROM manifests"

MONEY_BY_MODEL = """
SELECT model, sum(priced), sum(nanodollars) / 1e9 FROM job_counters WHERE {condition}
GROUP BY model HAVING sum(jobs) > 0 ORDER BY 3 DESC"""

CHECK = "PRAGMA quick_check(10)"

COUNT_SELECTED = "SELECT count(*) FROM jobs WHERE {condition}"

FILES_OF_PAGE = """
SELECT job_key, n, url, path, size_bytes, sha256, content_type FROM files
WHERE job_key BETWEEN :first AND :last ORDER BY job_key, n"""

ATTEMPTS = """
SELECT at, action, status, detail, request_id FROM attempts WHERE job_key = :job ORDER BY attempt_key"""

MANIFEST_NAMES = "SELECT name FROM manifests ORDER BY manifest_key"

# What a listing of all saved files under an output directory depends on: its manifests, and the last
# thing that happened to any job.
MANIFESTS_OF_OUTPUT = """
SELECT name, fingerprint, planned_at FROM manifests WHERE output_directory = :output_directory
ORDER BY manifest_key"""
LAST_ATTEMPT = "SELECT max(attempt_key) FROM attempts"

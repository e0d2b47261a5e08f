"""The SQL of what is shown page by page, and of what changed since it was shown."""

# The jobs that something happened to last; those that wait come after all others.
NEWEST_KEYS = """
SELECT job_key FROM jobs WHERE {condition}
ORDER BY state = 'pending', coalesce(completed_at, submitted_at) DESC, job_key LIMIT :most"""

# Every move writes a line of history, so that its number tells what has been seen.
CURSOR = """
SELECT coalesce((SELECT max(attempt_key) FROM attempts), 0),
  coalesce((SELECT max(job_key) FROM jobs), 0)"""

CHANGED_KEYS = """
SELECT DISTINCT job_key FROM attempts WHERE attempt_key > :attempt AND attempt_key <= :until
UNION SELECT job_key FROM jobs WHERE job_key > :job AND job_key <= :until_job
ORDER BY 1"""

MANIFEST_PLACES = "SELECT name, path, output_directory FROM manifests ORDER BY manifest_key"

# Whether a path is that of a file which some job has; the path is exact, nothing is resolved.
RECORDED_PATH = """
SELECT m.name FROM files f JOIN jobs j USING (job_key) JOIN manifests m USING (manifest_key)
WHERE f.path = :path AND j.wanted = 1"""

"""The SQL of planning: manifests staged on disk, compared with the ledger, adopted by it."""

# The expanded manifests, staged on disk so that their number does not matter.
CREATE_STAGE = """
CREATE TEMP TABLE stage (
  staged_key INTEGER PRIMARY KEY,
  manifest TEXT NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, params TEXT NOT NULL,
  tags TEXT NOT NULL, meta TEXT NOT NULL, place INTEGER NOT NULL, repeat INTEGER NOT NULL,
  output TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, inputs TEXT NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1, copy_source TEXT, clash INTEGER NOT NULL DEFAULT 0,
  UNIQUE (manifest, id)
)"""

# The same identity again is one job, with the names of all files that hold the same; `clash` when an
# explicit id was given to another request.
STAGE = """
INSERT INTO stage
  (manifest, id, model, params, tags, meta, place, repeat, output, target, source, inputs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (manifest, id) DO UPDATE SET copies = copies + 1, copy_source = excluded.source,
  inputs = json_patch(inputs, excluded.inputs),
  clash = clash OR model <> excluded.model OR params <> excluded.params"""

STAGED_COPIES = """
SELECT manifest, id, source, copy_source, copies, clash FROM stage WHERE copies > 1
ORDER BY clash DESC, staged_key LIMIT :limit"""

STAGED_COPIES_TOTAL = "SELECT coalesce(sum(copies - 1), 0) FROM stage WHERE copies > 1"

# Two staged jobs that would write one file.
STAGED_COLLISIONS = """
SELECT target, min(source), max(source), count(*) FROM stage GROUP BY target HAVING count(*) > 1
ORDER BY min(staged_key) LIMIT :limit"""

# A staged job that would write the file of another job, which has it already. Only a job that still
# has to be saved can do that: what is saved keeps the name it has.
OWNED_COLLISIONS = """
SELECT s.source, s.target, o.id FROM stage s
LEFT JOIN manifests m ON m.name = s.manifest
LEFT JOIN jobs j ON j.manifest_key = m.manifest_key AND j.id = s.id
JOIN jobs o ON o.output = s.output AND o.state = 'saved'
JOIN manifests om ON om.manifest_key = o.manifest_key AND om.output_directory = :output_directory
WHERE j.job_key IS NULL OR (j.state <> 'saved' AND o.job_key <> j.job_key)
ORDER BY s.staged_key LIMIT :limit"""

# What a run would do with the staged jobs, by model and by what the ledger knows of them.
COMPARE = """
SELECT s.manifest, s.model,
  CASE WHEN j.state IN ('failed', 'blocked', 'invalid') AND (j.params <> s.params OR j.model <> s.model)
    THEN 'pending' ELSE j.state END,
  j.posts > 0, j.retries > 0, count(*)
FROM stage s
LEFT JOIN manifests m ON m.name = s.manifest
LEFT JOIN jobs j ON j.manifest_key = m.manifest_key AND j.id = s.id
GROUP BY 1, 2, 3, 4, 5"""

# Jobs whose request changed under an explicit id although it has been sent already.
COUNT_CHANGED = """
SELECT count(*) FROM stage s
JOIN manifests m ON m.name = s.manifest
JOIN jobs j ON j.manifest_key = m.manifest_key AND j.id = s.id
WHERE (j.params <> s.params OR j.model <> s.model)
  AND j.state NOT IN ('pending', 'failed', 'blocked', 'invalid')"""

COUNT_REMOVED = """
SELECT count(*) FROM jobs j JOIN manifests m USING (manifest_key)
WHERE m.name = :manifest AND j.wanted = 1
  AND j.id NOT IN (SELECT id FROM stage WHERE manifest = :manifest)"""

# Lines that left the manifest stay in the ledger and are not run.
ADOPT_REMOVED = """
UPDATE jobs SET wanted = 0
WHERE wanted = 1 AND manifest_key = (SELECT manifest_key FROM manifests WHERE name = :manifest)
  AND id NOT IN (SELECT id FROM stage WHERE manifest = :manifest)"""

# New jobs come in; of known ones only what costs nothing changes, and the request only where nothing was
# made of it: one that was corrected under its id after it failed is a new request, and pending.
ADOPT = """
INSERT INTO jobs (manifest_key, id, model, params, tags, meta, place, repeat, output, source, inputs)
SELECT (SELECT manifest_key FROM manifests WHERE name = s.manifest),
  s.id, s.model, s.params, s.tags, s.meta, s.place, s.repeat, s.output, s.source, s.inputs
FROM stage s WHERE true ORDER BY s.staged_key
ON CONFLICT (manifest_key, id) DO UPDATE SET
  wanted = 1, tags = excluded.tags, meta = excluded.meta, place = excluded.place,
  repeat = excluded.repeat, source = excluded.source,
  inputs = CASE WHEN params = excluded.params OR state IN ('pending', 'failed', 'blocked', 'invalid')
    THEN excluded.inputs ELSE inputs END,
  output = CASE WHEN state = 'saved' THEN output ELSE excluded.output END,
  params = CASE WHEN state IN ('pending', 'failed', 'blocked', 'invalid')
    THEN excluded.params ELSE params END,
  model = CASE WHEN state IN ('pending', 'failed', 'blocked', 'invalid')
    THEN excluded.model ELSE model END,
  refusals = CASE WHEN params <> excluded.params OR model <> excluded.model THEN 0 ELSE refusals END,
  state = CASE WHEN state IN ('failed', 'blocked', 'invalid')
    AND (params <> excluded.params OR model <> excluded.model) THEN 'pending' ELSE state END
WHERE wanted = 0 OR tags <> excluded.tags OR meta <> excluded.meta OR place <> excluded.place
  OR repeat <> excluded.repeat OR source <> excluded.source OR inputs <> excluded.inputs
  OR (output <> excluded.output AND state <> 'saved')
  OR params <> excluded.params OR model <> excluded.model"""

# The most recent requests of all models, the latest first.
RECENT_JOBS = """
SELECT job_key, model, state, posts, cost, submitted_at, completed_at FROM jobs
WHERE request_id IS NOT NULL AND submitted_at > 0 ORDER BY submitted_at DESC LIMIT :limit"""

# What one finished job is known to have taken: the API's own seconds, the download, the bytes on disk.
FINISHED_DETAILS = """
SELECT
  (SELECT CASE WHEN json_valid(body) THEN json_extract(body, '$.metrics.total_time') END
    FROM results WHERE job_key = :job),
  (SELECT max(at) FROM attempts WHERE job_key = :job AND action = 'saved') - (
    SELECT max(at) FROM attempts WHERE job_key = :job AND action = 'completed'),
  (SELECT sum(size_bytes) FROM files WHERE job_key = :job)"""

# What a run of some manifests has before it. In flight and unfetched counts whichever manifest wants it.
WAITING_BY_MODEL = """
SELECT model, state, count(*) FROM jobs
WHERE state = 'pending' AND wanted = 1 AND manifest_key IN ({manifests}) GROUP BY model
UNION ALL SELECT model, state, count(*) FROM jobs WHERE state = 'submitted' GROUP BY model
UNION ALL SELECT model, state, count(*) FROM jobs WHERE state = 'completed' GROUP BY model"""

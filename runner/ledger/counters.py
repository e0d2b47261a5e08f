"""Counters that the database keeps by itself: how jobs stand, and what models cost and took.

Triggers change them in the transaction that moves a job, so that they are right after any crash and
whoever writes; nobody has to walk a million jobs to know where they are. Money is in billionths of a
dollar: whole numbers add up to the same in any order.
"""

_CHANGE = """
  INSERT INTO job_counters (manifest_key, model, wanted, state, jobs, priced, nanodollars, files)
  VALUES ({row}.manifest_key, {row}.model, {row}.wanted, {row}.state, {sign}1,
    {sign}({row}.cost IS NOT NULL),
    {sign}CAST(round(coalesce({row}.cost, 0) * 1e9) AS INTEGER), {sign}{row}.files)
  ON CONFLICT (manifest_key, model, wanted, state) DO UPDATE SET jobs = jobs + excluded.jobs,
    priced = priced + excluded.priced, nanodollars = nanodollars + excluded.nanodollars,
    files = files + excluded.files;"""
_ADD = _CHANGE.format(row="new", sign="")
_REMOVE = _CHANGE.format(row="old", sign="-")

# Composed of constants of this file.
COUNTERS = f"""
ALTER TABLE jobs ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET files = (SELECT count(*) FROM files f WHERE f.job_key = jobs.job_key)
WHERE completed_at IS NOT NULL;

CREATE TABLE job_counters (
  manifest_key INTEGER NOT NULL REFERENCES manifests,
  model TEXT NOT NULL,
  wanted INTEGER NOT NULL,
  state TEXT NOT NULL,
  jobs INTEGER NOT NULL,
  priced INTEGER NOT NULL,
  nanodollars INTEGER NOT NULL,
  files INTEGER NOT NULL,
  PRIMARY KEY (manifest_key, model, wanted, state)
) WITHOUT ROWID;
INSERT INTO job_counters
SELECT manifest_key, model, wanted, state, count(*), count(cost),
  CAST(sum(round(coalesce(cost, 0) * 1e9)) AS INTEGER), sum(files)
FROM jobs GROUP BY manifest_key, model, wanted, state;
CREATE TRIGGER job_comes AFTER INSERT ON jobs BEGIN {_ADD}
END;
CREATE TRIGGER job_moves AFTER UPDATE OF model, wanted, state, cost, files ON jobs
WHEN new.state IS NOT old.state OR new.cost IS NOT old.cost OR new.wanted IS NOT old.wanted
  OR new.model IS NOT old.model OR new.files IS NOT old.files
BEGIN {_REMOVE}{_ADD}
END;
CREATE TRIGGER job_goes AFTER DELETE ON jobs BEGIN {_REMOVE}
END;

CREATE TABLE model_history (
  model TEXT PRIMARY KEY,
  jobs INTEGER NOT NULL,
  priced INTEGER NOT NULL,
  nanodollars INTEGER NOT NULL,
  milliseconds INTEGER NOT NULL,
  highest_cost REAL
) WITHOUT ROWID;
INSERT INTO model_history
SELECT model, count(*), count(cost), CAST(sum(round(coalesce(cost, 0) * 1e9)) AS INTEGER),
  CAST(sum(round((completed_at - submitted_at) * 1000)) AS INTEGER), max(cost)
FROM jobs WHERE completed_at IS NOT NULL AND submitted_at IS NOT NULL GROUP BY model;
CREATE TRIGGER job_completes AFTER UPDATE OF completed_at ON jobs
WHEN new.completed_at IS NOT NULL AND new.submitted_at IS NOT NULL
  AND old.state IS NOT 'completed' AND new.state = 'completed'
BEGIN
  INSERT INTO model_history VALUES (new.model, 1, new.cost IS NOT NULL,
    CAST(round(coalesce(new.cost, 0) * 1e9) AS INTEGER),
    CAST(round((new.completed_at - new.submitted_at) * 1000) AS INTEGER), new.cost)
  ON CONFLICT (model) DO UPDATE SET jobs = jobs + 1, priced = priced + excluded.priced,
    nanodollars = nanodollars + excluded.nanodollars,
    milliseconds = milliseconds + excluded.milliseconds,
    highest_cost = nullif(max(coalesce(highest_cost, -1), coalesce(excluded.highest_cost, -1)), -1);
END;

DROP INDEX jobs_counted;
CREATE INDEX jobs_ended_short ON jobs (manifest_key, state, error)
WHERE state IN ('failed', 'blocked', 'invalid', 'expired', 'in_doubt', 'completed');

CREATE TRIGGER job_gives_its_id_up AFTER UPDATE OF request_id ON jobs
WHEN old.request_id IS NOT NULL AND new.request_id IS NOT old.request_id
  AND NOT EXISTS (SELECT 1 FROM attempts WHERE request_id = old.request_id)
BEGIN
  INSERT INTO attempts (job_key, at, action, detail, request_id)
  VALUES (old.job_key, coalesce(old.submitted_at, 0), 'submitted', 'an earlier attempt', old.request_id);
END;
"""  # noqa: S608

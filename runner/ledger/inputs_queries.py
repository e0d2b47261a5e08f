"""The SQL of files that jobs send: what they hold, and where they were uploaded to."""

# What files held when they were looked at last.
LOOKS_FROM = """
SELECT path, size_bytes, modified_ns, inode, sha256, content_type FROM looks WHERE path >= :path
ORDER BY path LIMIT :limit"""
LOOK = """
SELECT sha256 FROM looks WHERE path = :path AND size_bytes = :size_bytes
  AND modified_ns = :modified_ns AND inode = :inode"""
PUT_LOOK = """
INSERT OR REPLACE INTO looks (path, size_bytes, modified_ns, inode, sha256, content_type)
VALUES (:path, :size_bytes, :modified_ns, :inode, :sha256, :content_type)"""

FORGET_LOOK = "DELETE FROM looks WHERE path = :path"

# The files that a manifest's jobs send.
INPUTS_OF_MANIFEST = """
SELECT DISTINCT inputs FROM jobs
WHERE manifest_key = :manifest AND length(inputs) > 2 AND wanted = 1"""

# A content that was uploaded to a host, not too long ago, and not before the job was last put back.
UPLOAD_OF = """
SELECT url FROM uploads WHERE sha256 = :sha256 AND host = :host AND uploaded_at >= :since
  AND uploaded_at > coalesce(
    (SELECT max(at) FROM attempts WHERE job_key = :job AND action = 'retry'), 0)
ORDER BY uploaded_at DESC LIMIT 1"""
PUT_UPLOAD = """
INSERT OR REPLACE INTO uploads (url, sha256, host, uploaded_at)
VALUES (:url, :sha256, :host, :at)"""

# Which content an address stands for; whether a content is known at all.
CONTENT_AT = "SELECT sha256 FROM uploads WHERE url = :url"
IS_CONTENT = """
SELECT EXISTS (SELECT 1 FROM looks WHERE sha256 = :sha256)
  OR EXISTS (SELECT 1 FROM uploads WHERE sha256 = :sha256)"""

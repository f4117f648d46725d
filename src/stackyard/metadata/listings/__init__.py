"""What administrators are shown: repositories, tags and manifests, page by page, each page in one statement.

A page first picks its rows by an index, then everything else is looked up for those alone. That may still be much (a
repository has as many links as it has), so these functions belong into `Database.survey`, which holds up nobody.
"""

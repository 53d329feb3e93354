"""Run programs: load an application, supervise workers, reload on changes."""

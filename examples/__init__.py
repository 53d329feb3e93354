"""Programs that use Rowlock, to be read and run."""

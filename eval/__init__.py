"""The IRS loop, benchmarks and the report."""

if __name__ != "presel_lightning.eval":
    raise ModuleNotFoundError(f"import presel_lightning.eval, not {__name__}")

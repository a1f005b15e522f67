"""The connector and its conditionings, at graph time and at sampling time."""

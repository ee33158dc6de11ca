"""The processes that decode pictures: what each of them does, and who gives them their tasks."""

"""The demonstration: two host agents as processes, one VM that moves between them while it runs, and a proof.

`plan` says what is moved when, `agents` runs the two hosts, `scenario` moves the VM, `console` follows its serial
line from host to host, `verdict` compares with the same guest run without any migration, `report` shows it all.
"""

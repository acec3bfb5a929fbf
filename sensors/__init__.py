"""What watches and requests runs: schedules from declarations, chains, and the refreshing of marts.

A sensor belongs here when it decides that a run is due; what the run does belongs to the assets it materialises.
"""

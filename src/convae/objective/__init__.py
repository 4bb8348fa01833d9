"""The objective room: named terms in stated units, schedules, and the sum that is minimized."""

"""For people who write providers: conformance suites and devices that misbehave on demand."""

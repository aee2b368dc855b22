"""Steps, by which a slice of an epoch is learned: `plain` is the definition, `registry` names the faster steps."""

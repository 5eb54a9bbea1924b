package collector

import "clntrace/collector/options"

// Config is everything that an operator can set. The zero Config is not usable;
// start from DefaultConfig.
type Config = options.Config

// DefaultConfig returns the configuration that applies if nothing is set.
func DefaultConfig() Config { return options.Defaults() }

package collector

import "fmt"

// introduction is the line of the log with which the export begins: where spans come
// from, where they go and wait, and how to ask about them. c.mu is held.
func (c *Collector) introduction() string {
	const mib = 1 << 20
	where := "exporting none"
	if !c.cfg.Endpoint.Off() {
		where = fmt.Sprintf("sending them to %s, keeping them in memory while it is away", c.cfg.Endpoint)
		if s := c.pipeline.Spool(); s.Limit > 0 {
			where = fmt.Sprintf("sending them to %s, keeping them in %s (%d MiB at most) while it is away", c.cfg.Endpoint, s.Dir, s.Limit/mib)
		}
	}
	return fmt.Sprintf("clntrace %s: listening for spans on %s, %s; %s", c.options.Version, c.options.SocketPath, where, c.options.Voice.Ask)
}

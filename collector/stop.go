package collector

import (
	"context"
	"log/slog"
	"time"
)

// shutdownTime bounds the export of what is left. lightningd waits for its plugins,
// and kills them after 30 s.
const shutdownTime = 5 * time.Second

// Stop shuts a collector down and logs what was lost. It gives up a second after the
// time for that is over, so that the process ends whatever is wrong.
func Stop(c interface{ Shutdown(context.Context) error }, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- c.Shutdown(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			log.Warn(err.Error())
		}
	case <-time.After(shutdownTime + time.Second):
		log.Error("stopping takes too long, giving up")
	}
}

module clntrace

go 1.26.0

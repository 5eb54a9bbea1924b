package cln

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// golden holds a summary, a tab and its statement a line; lines that begin
// with # are comments.
const golden = "testdata/summaries.tsv"

type line struct{ comment, summary, statement string }

func readGolden(tb testing.TB) (lines []line) {
	tb.Helper()
	text, err := os.ReadFile(golden)
	if err != nil {
		tb.Fatal(err)
	}
	for i, s := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if strings.HasPrefix(s, "#") {
			lines = append(lines, line{comment: s})
			continue
		}
		summary, statement, ok := strings.Cut(s, "\t")
		if !ok {
			tb.Fatalf("%s:%d has no tab", golden, i+1)
		}
		lines = append(lines, line{summary: summary, statement: statement})
	}
	return lines
}

// statements are the real ones.
func statements(tb testing.TB) (list []string) {
	tb.Helper()
	for _, l := range readGolden(tb)[1:] {
		if l.comment != "" {
			break
		}
		list = append(list, l.statement)
	}
	return list
}

func TestSummaryOfEveryStatement(t *testing.T) {
	lines := readGolden(t)
	if *update {
		rewriteGolden(t, lines)
	}
	for i, l := range lines {
		if l.comment != "" {
			continue
		}
		if got := summarize(l.statement); got != l.summary {
			t.Errorf("%s:%d: got %q, want %q, for %s", golden, i+1, got, l.summary, l.statement)
		}
	}
}

func rewriteGolden(t *testing.T, lines []line) {
	t.Helper()
	var b bytes.Buffer
	for _, l := range lines {
		if l.comment != "" {
			fmt.Fprintln(&b, l.comment)
			continue
		}
		fmt.Fprintf(&b, "%s\t%s\n", summarize(l.statement), l.statement)
	}
	if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	created    = regexp.MustCompile(`(?:CREATE (?:UNIQUE )?(?:TABLE|INDEX)|RENAME TO) (\w+)`)
	referenced = regexp.MustCompile(`(?i)\b(?:FROM|JOIN|INTO|^UPDATE|TABLE|DROP INDEX|INDEX \w+\s+ON) +(\w+)`)
)

// The statements of a real node, all of which create what they use, are plain
// enough for an expression to find their tables: the summary names the same.
func TestRealStatementsAreSummedUpAsVerbsAndTables(t *testing.T) {
	list := statements(t)
	if len(list) < 388 {
		t.Fatalf("%s has %d real statements", golden, len(list))
	}
	known := map[string]bool{"foreign_keys": true}
	for _, m := range created.FindAllStringSubmatch(strings.Join(list, "\n"), -1) {
		known[m[1]] = true
	}
	for _, verb := range []string{"ALTER TABLE", "CREATE TABLE", "CREATE INDEX", "DROP TABLE", "DROP INDEX", "DELETE", "INSERT", "PRAGMA", "SELECT", "UPDATE"} {
		for _, word := range strings.Fields(verb) {
			known[word] = true
		}
	}
	for _, statement := range list {
		words := strings.Fields(summarize(statement))
		if len(words) < 2 || !strings.HasPrefix(strings.ToUpper(statement), words[0]) {
			t.Errorf("%q does not name what is done to what by %s", words, statement)
		}
		for _, word := range words {
			if !known[word] {
				t.Errorf("%q has %q, neither verb nor table, for %s", words, word, statement)
			}
		}
		for _, m := range referenced.FindAllStringSubmatch(statement, -1) {
			if !slices.Contains(words, m[1]) {
				t.Errorf("%q lacks the table %s of %s", words, m[1], statement)
			}
		}
	}
}

func TestSummaryAcrossLines(t *testing.T) {
	for _, tc := range []struct{ name, statement, want string }{
		{"tabs and newlines", "SELECT id\n\tFROM payments,\r\n\tpeers\nWHERE id = ?", "SELECT payments peers"},
		{"comment to the end of its line", "SELECT id -- FROM a\nFROM b", "SELECT b"},
		{"comment over lines", "SELECT id /* FROM\na */ FROM b", "SELECT b"},
		{"comment that is not closed", "SELECT id FROM a /* FROM b", "SELECT a"},
		{"literal over lines", "SELECT 'FROM\na' FROM b", "SELECT b"},
		{"literal that is not closed", "SELECT id FROM a WHERE x = 'FROM b", "SELECT a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := summarize(tc.statement); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSummaryIsBounded(t *testing.T) {
	long := strings.Repeat("x", maxSummary+1)
	fits := strings.Repeat("x", maxSummary-len("SELECT "))
	for _, tc := range []struct{ name, statement, want string }{
		{"long first word", long + " FROM a", ""},
		{"long quoted first word", `"` + long + `" FROM a`, ""},
		{"long first word that is longer in capitals", strings.Repeat("ɐ", maxSummary/2), ""},
		{"long table", "SELECT id FROM " + long, "SELECT"},
		{"long quoted table", `SELECT id FROM "` + long + `"`, "SELECT"},
		{"table that just fits", "SELECT id FROM " + fits, "SELECT " + fits},
		{"table that just does not fit", "SELECT id FROM x" + fits, "SELECT"},
		{"long table between others", "SELECT id FROM a, " + long + ", b", "SELECT a b"},
		{"long definition", "CREATE TABLE " + long, "CREATE TABLE"},
		{"long kind", "CREATE " + long + " a", "CREATE a"},
		{"long name that stands first", "WITH FROM " + long, "WITH"},
		{"long name that stands first, then another", "WITH FROM " + long + ", b", "b"},
		{"many tables", "SELECT id FROM " + strings.Repeat("ab, ", 1000) + "c", "SELECT" + strings.Repeat(" ab", 83)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := summarize(tc.statement); got != tc.want {
				t.Errorf("got %d bytes, %q, want %q", len(got), got, tc.want)
			}
		})
	}
}

func FuzzSummary(f *testing.F) {
	for _, l := range readGolden(f) {
		f.Add(l.statement)
	}
	f.Add("\xff\xfe FROM \x80")
	f.Add("SELECT id FROM \"" + strings.Repeat("ü", 200) + "\"")
	f.Fuzz(func(t *testing.T, statement string) {
		got := summarize(statement)
		if len(got) > maxSummary {
			t.Errorf("%d bytes: %q", len(got), got)
		}
		if utf8.ValidString(statement) && !utf8.ValidString(got) {
			t.Errorf("%q, which is not UTF-8, of %q, which is", got, statement)
		}
		if strings.Trim(got, " ") != got {
			t.Errorf("blanks around %q", got)
		}
		if again := summarize(statement); again != got {
			t.Errorf("%q, then %q", got, again)
		}
	})
}

func BenchmarkSummary(b *testing.B) {
	list := statements(b)
	var bytes int64
	for _, s := range list {
		bytes += int64(len(s))
	}
	b.SetBytes(bytes / int64(len(list)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		summarize(list[i%len(list)])
		i++
	}
}

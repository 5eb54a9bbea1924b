package text

import "testing"

func TestNumber(t *testing.T) {
	for n, want := range map[int64]string{-1: "-1 spans are", 0: "0 spans are", 1: "1 span is", 21: "21 spans are"} {
		if got := Number(n, "span is", "spans are"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"ab☃", 5, "ab☃"},
		{"ab☃", 4, "ab"},
		{"☃", 2, ""},
		{"\x80\x80\x80", 2, ""},
	} {
		if got := Clip(tc.text, tc.most); got != tc.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tc.text, tc.most, got, tc.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"as it is: ünï ☃": "as it is: ünï ☃",
		"<a href=\"x\">&": `(a href="x")+`,
		"tab\tline\nnext": "tab line next",
		"\x1b[31mred\x00": "?[31mred?",
		"\xff\u202e":      "\ufffd?",
	} {
		if got := Plain(text); got != want {
			t.Errorf("Plain(%q) = %q, want %q", text, got, want)
		}
	}
}

package oscar_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The quick start of the README is the code of Example, which is compiled and run.
func TestReadmeShowsTheExample(t *testing.T) {
	shown := cut(t, "README.md", "(?s)<!-- snippet: [^\n]*#quickstart -->\n```go\n(.*?)^```$")
	compiled := cut(t, "example_test.go", "(?s)^\t// snippet: quickstart\n(.*?)^\t// end snippet$")
	compiled = strings.TrimPrefix(strings.ReplaceAll("\n"+compiled, "\n\t", "\n"), "\n")
	if shown != compiled {
		t.Fatalf("README.md shows\n%s\nand example_test.go has\n%s", shown, compiled)
	}
}

func cut(t *testing.T, file, pattern string) string {
	text, err := os.ReadFile(file)
	must(t, err)
	found := regexp.MustCompile("(?m)" + pattern).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has nothing like %s", file, pattern)
	}
	return string(found[1])
}

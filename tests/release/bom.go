package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
)

// module is a module that is linked into a binary.
type module struct {
	path, version string
	sum           string // as in go.sum
	licenses      []license
}

// license is a text that a module's authors require to be passed on.
type license struct {
	text string
	ids  []string // SPDX
}

// modules returns the modules that the binary itself names, with their licenses,
// which are in the module cache because the binary was built from there.
func (b builder) modules(ctx context.Context, env []string, binary string) ([]module, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-m", "-json"}
	parts := []module{}
	for _, dep := range info.Deps {
		parts = append(parts, module{path: dep.Path, version: dep.Version, sum: dep.Sum})
		args = append(args, dep.Path)
	}
	out, err := b.goCommand(ctx, env, args...)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	for i := range parts {
		var listed struct{ Path, Dir string } // in the order of args
		if err := decoder.Decode(&listed); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if parts[i].licenses, err = readLicenses(listed.Dir); err != nil {
			return nil, fmt.Errorf("module %s in %q: %w", listed.Path, listed.Dir, err)
		}
	}
	return parts, nil
}

// licenseFile is a name under which modules keep their license.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-].*)?$`)

// readLicenses reads the licenses in a module's directory. It is an error if there is
// none, because such a module must not be passed on.
func readLicenses(dir string) ([]license, error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	found := []license{}
	for _, name := range names {
		if !licenseFile.MatchString(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		l := license{text: string(text)}
		for _, match := range licensecheck.Scan(text).Match {
			if !match.IsURL && !slices.Contains(l.ids, match.ID) {
				l.ids = append(l.ids, match.ID)
			}
		}
		found = append(found, l)
	}
	if len(found) == 0 {
		return nil, errors.New("has no license")
	}
	return found, nil
}

// licenseTexts returns all licenses as one text for the archive, each of them once,
// below the modules that have it.
func licenseTexts(parts []module) string {
	texts, owners := []string{}, map[string][]string{}
	for _, m := range parts {
		for _, l := range m.licenses {
			text := strings.TrimSpace(l.text)
			if owners[text] == nil {
				texts = append(texts, text)
			}
			owners[text] = append(owners[text], m.path+" "+m.version)
		}
	}
	var all strings.Builder
	all.WriteString("clntrace contains these modules, and the standard library of Go,\nwhich has the license of golang.org/x/sys.\n")
	for _, text := range texts {
		fmt.Fprintf(&all, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 72), strings.Join(owners[text], "\n"), text)
	}
	return all.String()
}

// writeBOM writes the CycloneDX bill of materials of a binary. It has no serial
// number, and its time is the commit's.
func writeBOM(target string, s source, binary string, parts []module) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	body, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	main := cyclonedx.Component{
		BOMRef: purl("clntrace", "v"+s.Version), Type: cyclonedx.ComponentTypeApplication,
		Name: "clntrace", Version: s.Version, PackageURL: purl("clntrace", "v"+s.Version),
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(body))}},
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "MIT"}}},
	}
	components := []cyclonedx.Component{{
		BOMRef: purl("std", info.GoVersion), Type: cyclonedx.ComponentTypeLibrary,
		Name: "std", Version: info.GoVersion, PackageURL: purl("std", strings.TrimPrefix(info.GoVersion, "go")),
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "BSD-3-Clause"}}},
	}}
	needs := []string{components[0].BOMRef}
	for _, m := range parts {
		components = append(components, m.component())
		needs = append(needs, purl(m.path, m.version))
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: s.Time.Format("2006-01-02T15:04:05Z"), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &needs}}

	var text bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom); err != nil {
		return err
	}
	return os.WriteFile(target, text.Bytes(), 0o644)
}

// component is the module as a CycloneDX component.
func (m module) component() cyclonedx.Component {
	licenses := cyclonedx.Licenses{}
	for _, l := range m.licenses {
		for _, id := range l.ids {
			licenses = append(licenses, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
		}
	}
	return cyclonedx.Component{
		BOMRef: purl(m.path, m.version), Type: cyclonedx.ComponentTypeLibrary, Name: m.path, Version: m.version,
		PackageURL: purl(m.path, m.version), Licenses: &licenses,
		Properties: &[]cyclonedx.Property{{Name: "go.sum", Value: m.sum}},
	}
}

// purl is the package URL of a Go module.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

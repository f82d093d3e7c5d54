package stack

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pushcluster/shared/secret"
	"pushcluster/shared/signature"
	"pushcluster/shared/token"
)

// KeyName is the name of the stack's API key: the ids that senders choose begin
// with it.
const KeyName = "demo"

// Keys are the secrets of a stack.
type Keys struct {
	API     string `json:"api"`     // of a business system, for Collect and Auth; its name is KeyName
	Signing string `json:"signing"` // of requests between the components
	Token   string `json:"token"`   // of connection tokens, for HS256
	GitHub  string `json:"github"`  // of the webhooks that the source github of the example signs
}

// NewKeys returns random keys.
func NewKeys() Keys {
	return Keys{API: rand.Text(), Signing: rand.Text(), Token: rand.Text() + rand.Text(), GitHub: rand.Text()}
}

// LoadKeys returns the keys in the file at path. If there is none it makes new
// ones and writes them there, readable by the owner only.
func LoadKeys(path string) (Keys, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		keys := NewKeys()
		return keys, writeJSON(path, keys)
	}
	if err != nil {
		return Keys{}, err
	}
	var keys Keys
	if err := json.Unmarshal(content, &keys); err != nil {
		return Keys{}, fmt.Errorf("%s is not the keys of a stack (remove it to get new ones): %w", path, err)
	}
	if _, err := keys.parse(); err != nil {
		return Keys{}, fmt.Errorf("%s (remove it to get new ones): %w", path, err)
	}
	if keys.GitHub == "" { // written before there were webhooks
		keys.GitHub = rand.Text()
		return keys, writeJSON(path, keys)
	}
	return keys, nil
}

// A keyRing is Keys in the form that the components take.
type keyRing struct {
	api     secret.Keys
	signing signature.Keys
	tokens  token.Keys
}

func (k Keys) parse() (keyRing, error) {
	var r keyRing
	var err error
	if r.api, err = secret.ParseKeys(KeyName + ":" + k.API); err != nil {
		return r, err
	}
	if r.signing, err = signature.ParseKeys([]string{k.Signing}); err != nil {
		return r, err
	}
	r.tokens, err = token.ParseKeys(KeyName + ":HS256:" + k.Token)
	return r, err
}

// writeJSON replaces the file at path as a whole, readable by the owner only:
// who reads it sees the old content or the new.
func writeJSON(path string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(append(content, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

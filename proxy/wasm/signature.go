package wasm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // guests may ask for it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/wire"
)

// signed is what guests ask about: VerifySignatureArguments, or SignArguments.
type signed struct {
	hash, pem            string
	der, signature, text []byte
}

// The fields of the two messages, in the order of signed.
var (
	verifyFields = [5]int{1, 5, 2, 3, 4}
	signFields   = [5]int{1, 4, 2, -1, 3}
)

func (s *signed) read(b []byte, fields [5]int) bool {
	return wire.Fields(b, func(field int, _ uint64, v []byte) {
		switch field {
		case fields[0]:
			s.hash = string(v)
		case fields[1]:
			s.pem = string(v)
		case fields[2]:
			s.der = v
		case fields[3]:
			s.signature = v
		case fields[4]:
			s.text = v
		}
	})
}

// key is the key in DER; nil where there is none, or more than one.
func (s *signed) key() []byte {
	if (s.pem == "") == (len(s.der) == 0) {
		return nil
	}
	if s.pem == "" {
		return s.der
	}
	block, _ := pem.Decode([]byte(s.pem))
	if block == nil {
		return nil
	}
	return block.Bytes
}

// digest is the hash of the text.
func (s *signed) digest() (crypto.Hash, []byte, error) {
	h := map[string]crypto.Hash{
		"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
	}[strings.ToLower(s.hash)]
	if h == 0 {
		return 0, nil, errors.New(s.hash + " is not supported.")
	}
	w := h.New()
	_, _ = w.Write(s.text) // a hash does not fail
	return h, w.Sum(nil), nil
}

// verifySignature tells whether a text was signed by the owner of a key.
func verifySignature(_ *Instance, argument []byte) ([]byte, Status) {
	var s signed
	if !s.read(argument, verifyFields) {
		return nil, StatusBadArgument
	}
	key, err := x509.ParsePKIXPublicKey(s.key())
	if err != nil {
		return nil, StatusBadArgument
	}
	if err := s.verify(key); err != nil {
		return wire.Text(nil, 2, err.Error()), StatusOK
	}
	return wire.Bool(nil, 1, true), StatusOK
}

var errVerify = errors.New("Failed to verify digest. Error code: 0") //nolint:staticcheck // as guests know it

func (s *signed) verify(key any) error {
	h, digest, err := s.digest()
	if err != nil {
		return err
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(k, h, digest, s.signature) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, digest, s.signature) {
			return nil
		}
	}
	return errVerify
}

// sign signs a text with a key that the guest has.
func sign(_ *Instance, argument []byte) ([]byte, Status) {
	var s signed
	if !s.read(argument, signFields) {
		return nil, StatusBadArgument
	}
	der := s.key()
	var key any
	var err error
	if key, err = x509.ParsePKCS8PrivateKey(der); err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			if key, err = x509.ParseECPrivateKey(der); err != nil {
				return nil, StatusBadArgument
			}
		}
	}
	signature, err := s.sign(key)
	if err != nil {
		return wire.Text(nil, 3, err.Error()), StatusOK
	}
	return wire.Bytes(wire.Bool(nil, 1, true), 2, signature), StatusOK
}

func (s *signed) sign(key any) ([]byte, error) {
	h, digest, err := s.digest()
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, k, h, digest)
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, k, digest)
	}
	return nil, errors.New("the type of the key is not supported")
}

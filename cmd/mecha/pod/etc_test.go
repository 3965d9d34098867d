package pod

import "testing"

// TestOnlyDNS: a pod's programs ask the node for names, not a service of the host.
func TestOnlyDNS(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"passwd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\nnetworks: files\n": "passwd: files systemd\nhosts: files dns\nnetworks: files\n",
		"# hosts: are below\n\thosts: files": "# hosts: are below\nhosts: files dns\n",
	} {
		if got := onlyDNS([]byte(in)); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

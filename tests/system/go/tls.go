// Calls over HTTP/1.1 and HTTP/2, each on one connection, some before "go on" is read and some after it; then TLS
// sessions that are resumed. Arguments: the port, the file of the authority.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
)

var address string

func check(right bool, what ...interface{}) {
	if !right {
		fmt.Println(what...)
		os.Exit(1)
	}
}

// Echoes a body; returns whether that was on a connection that was there before.
func call(client *http.Client, proto string) bool {
	body := make([]byte, 70000)
	rand.Read(body)
	reused := false
	trace := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	request, err := http.NewRequestWithContext(trace, "POST", address, bytes.NewReader(body))
	check(err == nil, err)
	response, err := client.Do(request)
	check(err == nil, err)
	got, err := io.ReadAll(response.Body)
	response.Body.Close()
	check(err == nil && bytes.Equal(got, body), "another body", err)
	check(response.StatusCode == 200 && response.Proto == proto, response.Status, response.Proto)
	return reused
}

func calls(client *http.Client, proto string, old bool) {
	for n := 0; n < 3; n++ {
		check(call(client, proto) == (old || n > 0), proto, "connection of call", n)
	}
}

func main() {
	address = "https://localhost:" + os.Args[1] + "/echo"
	pem, err := os.ReadFile(os.Args[2])
	check(err == nil, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := func(version uint16) *tls.Config {
		return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, MaxVersion: version,
			ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	}
	protos := []string{"HTTP/1.1", "HTTP/2.0"}
	var clients []*http.Client
	for _, proto := range protos {
		clients = append(clients, &http.Client{Transport: &http.Transport{
			TLSClientConfig: config(tls.VersionTLS13), ForceAttemptHTTP2: proto == "HTTP/2.0"}})
	}
	for n, proto := range protos {
		calls(clients[n], proto, false)
	}
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	check(err == nil, err)
	for n, proto := range protos {
		calls(clients[n], proto, true)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ours := config(version)
		for n := 0; n < 2; n++ {
			conn, err := tls.Dial("tcp", "localhost:"+os.Args[1], ours)
			check(err == nil, err)
			fmt.Fprintf(conn, "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			got, err := io.ReadAll(conn) // to close_notify
			check(err == nil && bytes.Contains(got, []byte("a page")), string(got), err)
			check(conn.ConnectionState().DidResume == (n > 0), "resumed", n)
			conn.Close()
		}
	}
	fmt.Println("all done")
}

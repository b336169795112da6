// Behaviour: an HTTP server on 127.0.0.1 in Go, static by nature, whose goroutines move between threads and
// whose stacks move in memory.
//
//	GET /work?n=N       handled by main.handle, which calls main.work N times; body `done N`
//
// On stdin, as in line.h (`ready pid=N port=N` first):
//
//	run GOROUTINES CALLS    each goroutine calls main.work CALLS times; `done TOTAL`
//	deep GOROUTINES DEPTH   each goroutine recurses to DEPTH, its stack growing and being copied on the way,
//	                        and calls main.work on every level; `done TOTAL`
//
// The collector runs after every 4 % of growth, so that stacks are scanned and shrunk all the time. A wrong
// result of main.work makes the answer `wrong …`.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
)

var wrong int32

//go:noinline
func work(a uint32) uint32 {
	x := a*3 + 1
	x ^= x >> 7
	x += a ^ 5
	return x*5 + x>>3
}

func twin(a uint32) uint32 {
	x := a*3 + 1
	x ^= x >> 7
	x += a ^ 5
	return x*5 + x>>3
}

func call(a uint32) {
	if work(a) != twin(a) {
		atomic.StoreInt32(&wrong, 1)
	}
}

//go:noinline
func handle(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	for i := 0; i < n; i++ {
		call(uint32(i))
	}
	fmt.Fprintf(w, "%s %d\n", verdict(), n)
}

// Each level keeps a quarter of a kibibyte on the stack and some garbage on the heap.
//
//go:noinline
func deep(depth int) int {
	var frame [256]byte
	frame[depth%256] = 1
	call(uint32(depth))
	if depth%64 == 0 {
		garbage := make([]byte, 4096)
		frame[0] += garbage[depth%4096]
	}
	if depth > 1 {
		frame[1] += byte(deep(depth - 1))
	}
	return int(frame[depth%256])
}

func verdict() string {
	if atomic.LoadInt32(&wrong) != 0 {
		return "wrong"
	}
	return "done"
}

func each(count int, body func()) {
	var all sync.WaitGroup
	for i := 0; i < count; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			body()
		}()
	}
	all.Wait()
}

func main() {
	debug.SetGCPercent(4)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	http.HandleFunc("/work", handle)
	go http.Serve(listener, nil)
	fmt.Printf("ready pid=%d port=%d\n", os.Getpid(), listener.Addr().(*net.TCPAddr).Port)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "quit" {
		var a, b int
		if n, _ := fmt.Sscanf(lines.Text(), "run %d %d", &a, &b); n == 2 && a >= 1 && b >= 0 {
			each(a, func() {
				for i := 0; i < b; i++ {
					call(uint32(i))
				}
			})
			fmt.Println(verdict(), a*b)
		} else if n, _ := fmt.Sscanf(lines.Text(), "deep %d %d", &a, &b); n == 2 && a >= 1 && b >= 1 {
			each(a, func() { deep(b) })
			fmt.Println(verdict(), a*b)
		} else {
			fmt.Println("error unknown command:", lines.Text())
		}
	}
}

// Behaviour: goroutines in a loop without calls, so that only a signal takes the processor from them, between any two
// instructions; and goroutines that wait for good.
//
// On stdin, as in line.h (`ready pid=N` first):
//
//	park N                  N more goroutines wait for a channel that stays empty; `done N`
//	spin N ROUNDS PROCS     on PROCS processors at most, N goroutines call main.churn with ROUNDS each, again and
//	                        again until the next line; `spinning`
//	halt                    ends that; `done CALLS`
//	churn N ROUNDS PROCS    the same, with one call each; `done CALLS`
//
// Meanwhile the collector runs all the time and scans the stacks of those that were preempted. Another result of
// main.churn than the first one with as many ROUNDS makes the answer `wrong …`.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

var (
	wrong   int32
	halted  int32
	calls   int64
	garbage []byte
	never   = make(chan int)
)

// The array gives it a frame, the bounds of the array a call that never comes: so it has a stack check.
//
//go:noinline
func churn(seed uint64, rounds int) uint64 {
	var ring [64]uint64
	a, b, c := seed, seed^0x9e3779b97f4a7c15, uint64(1)
	for i := 0; i < rounds; i++ {
		a += b
		b ^= c
		c += a >> 9
		a ^= a << 7
		b += a & c
		c ^= b >> 5
		b |= 1
		ring[a>>58] += b
		c -= b
		a += c ^ b
	}
	return a ^ b ^ c ^ ring[seed%64]
}

func call(rounds int) {
	seed := uint64(rounds)
	if churn(seed, rounds) != wanted(seed, rounds) {
		atomic.StoreInt32(&wrong, 1)
	}
	atomic.AddInt64(&calls, 1)
}

var (
	known   = map[int]uint64{}
	knowing sync.Mutex
)

func wanted(seed uint64, rounds int) uint64 {
	knowing.Lock()
	defer knowing.Unlock()
	return known[rounds]
}

func learn(rounds int) {
	knowing.Lock()
	defer knowing.Unlock()
	if _, is := known[rounds]; !is {
		known[rounds] = churn(uint64(rounds), rounds)
	}
}

func collect(over *int32) {
	for atomic.LoadInt32(over) == 0 {
		garbage = make([]byte, 64<<10)
		runtime.Gosched()
	}
}

func verdict() string {
	if atomic.LoadInt32(&wrong) != 0 {
		return "wrong"
	}
	return "done"
}

func start(count, rounds, procs int, again bool) *sync.WaitGroup {
	learn(rounds)
	runtime.GOMAXPROCS(procs)
	atomic.StoreInt64(&calls, 0)
	atomic.StoreInt32(&halted, 0)
	var all sync.WaitGroup
	for i := 0; i < count; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for call(rounds); again && atomic.LoadInt32(&halted) == 0; {
				call(rounds)
			}
		}()
	}
	go collect(&halted)
	return &all
}

func main() {
	debug.SetGCPercent(4)
	// The runtime opens its epoll descriptor for the first timer: not while somebody looks.
	time.Sleep(time.Microsecond)
	fmt.Printf("ready pid=%d\n", os.Getpid())
	var spinning *sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && lines.Text() != "quit" {
		var a, b, c int
		if n, _ := fmt.Sscanf(lines.Text(), "park %d", &a); n == 1 {
			for i := 0; i < a; i++ {
				go func() { <-never }()
			}
			runtime.Gosched()
			fmt.Println("done", a)
		} else if n, _ := fmt.Sscanf(lines.Text(), "spin %d %d %d", &a, &b, &c); n == 3 {
			spinning = start(a, b, c, true)
			fmt.Println("spinning")
		} else if n, _ := fmt.Sscanf(lines.Text(), "churn %d %d %d", &a, &b, &c); n == 3 {
			start(a, b, c, false).Wait()
			atomic.StoreInt32(&halted, 1)
			fmt.Println(verdict(), atomic.LoadInt64(&calls))
		} else if lines.Text() == "halt" && spinning != nil {
			atomic.StoreInt32(&halted, 1)
			spinning.Wait()
			spinning = nil
			fmt.Println(verdict(), atomic.LoadInt64(&calls))
		} else {
			fmt.Println("error unknown command:", lines.Text())
		}
	}
}

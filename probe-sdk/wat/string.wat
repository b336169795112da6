;; Reads the string that the first argument points to, counts by it, and writes an event for each that is not readable.
;;
;;     trocar build string.wat
;;     trocar load string.wasm -p PID --at libc.so.6:fopen
(module
  (import "trocar" "arg" (func $arg (param $n i32) (result i64)))
  (import "trocar" "read_str" (func $read_str (param $address i64) (param $to i32) (param $len i32) (result i32)))
  (import "trocar" "hash_add" (func $hash_add (param $map i32) (param $key i32) (param $len i32) (param $n i64) (result i32)))
  (import "trocar" "emit" (func $emit (param $event i32) (param $payload i32) (param $len i32)))

  ;; 0    the string, 64 bytes
  ;; 64   the event: address (8 bytes), error (4 bytes)
  (memory (export "memory") 1 1)

  (func (export "on_hit")
    (local $address i64) (local $len i32)
    (local.set $address (call $arg (i32.const 0)))
    (local.set $len (call $read_str (local.get $address) (i32.const 0) (i32.const 64)))
    ;; A negative length is an error: a wrong pointer in the target is an answer, never a crash.
    (if (i32.lt_s (local.get $len) (i32.const 0))
      (then
        (i64.store align=1 (i32.const 64) (local.get $address))
        (i32.store align=1 (i32.const 72) (local.get $len))
        (call $emit (i32.const 0) (i32.const 64) (i32.const 12))
        (return)))
    ;; The key is as long as the string. A full table is counted by the map itself.
    (drop (call $hash_add (i32.const 0) (i32.const 0) (local.get $len) (i64.const 1))))

  (@custom "trocar.manifest"
    "{\"abi\": 1, \"name\": \"string\","
    " \"maps\": [{\"name\": \"names\", \"kind\": \"hash\", \"entries\": 1024,"
    "   \"key\": [{\"name\": \"name\", \"type\": \"str\", \"bytes\": 64}]}],"
    " \"events\": [{\"name\": \"unreadable\", \"fields\": ["
    "   {\"name\": \"address\", \"type\": \"hex64\"}, {\"name\": \"error\", \"type\": \"i32\"}]}]}"))

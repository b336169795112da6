;; trick: an active segment behind the memory: no instance can be made
;; end: refused out of bounds
(module
  (memory (export "memory") 1)
  (data (i32.const 65534) "abcd")
  (func (export "on_hit") (nop)))

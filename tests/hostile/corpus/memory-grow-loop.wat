;; trick: memory.grow in a loop without end: over the limit it is a trap
;; end: quarantined over the limit
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (loop (drop (memory.grow (i32.const 1))) (br 0))))

;; trick: the start function grows the memory without end
;; end: refused limit
(module
  (memory (export "memory") 1)
  (func $s (loop (drop (memory.grow (i32.const 1))) (br 0)))
  (start $s)
  (func (export "on_hit") (nop)))

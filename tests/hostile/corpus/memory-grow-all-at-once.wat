;; trick: memory.grow by 65535 pages
;; end: quarantined over the limit
(module
  (memory (export "memory") 1)
  (func (export "on_hit") (drop (memory.grow (i32.const 65535)))))

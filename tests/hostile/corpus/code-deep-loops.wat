;; trick: 1000 loops in one another, none taken again
;; end: fine
(module
  (func (export "on_hit") 
;;*1000 loop

;;*1000 end
))

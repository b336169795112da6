;; trick: no bytes at all
;; end: refused empty
(module binary "")

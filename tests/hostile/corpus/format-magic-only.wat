;; trick: the first four bytes
;; end: refused ends
(module binary "\00\61\73\6d")

INSERT INTO attempt (occurrence, number, token, node, process, state, claimed_at, error)
VALUES (:occurrence, :number, :token, :node, :process, 'claimed', :now, '')

// Program directory does, by the gRPC API of a running Dex, what an administrator would.
//
//	directory ADDRESS revoke SUBJECT CLIENT    the refresh token of a person for a client is over
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dexidp/dex/api/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 4 || words[1] != "revoke" {
		return errors.New("expected ADDRESS revoke SUBJECT CLIENT")
	}
	connection, err := grpc.NewClient(words[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	asked := &api.RevokeRefreshReq{UserId: words[2], ClientId: words[3]}
	answer, err := api.NewDexClient(connection).RevokeRefresh(ctx, asked)
	if err == nil && answer.NotFound {
		return errors.New("there is no refresh token of this person for this client")
	}
	return err
}
